/* A spec file, read in a sandboxed Lua: the forward graph and the training set-up. */
#ifndef RG_SPEC_H
#define RG_SPEC_H

#include "rg_ops.h"

/* A line of the table of layers: a named scope or layer and what comes out of it. */
typedef struct rg_spec_layer {
    const char *name; /* "block2.1.conv1", "block2", ... */
    const char *kind; /* "conv2d 3x3/1", "block", "batch_norm", ... */
    int32_t depth;    /* of scopes above it */
    rg_vid value;     /* its output in `graph` */
} rg_spec_layer;

typedef struct rg_spec {
    const char *path;
    const char *name; /* the file's name without folder and .lua */
    rg_graph *graph; /* forward in training form: image, label -> loss, correct, logits (results are
                        set; BATCH_NORM's new statistics too) */
    int32_t layer_count;
    rg_spec_layer *layer;
    /* data */
    const char *dataset; /* "cifar10" */
    int32_t height, width, channels, classes;
    double mean[4], std[4];
    /* training */
    rg_optim optim;
    int32_t batch, eval_batch, epochs;
    uint64_t seed;
    rg_hash hash; /* of all files that were read */
} rg_spec;

/* Reads a spec; all errors it finds are in ctx (not the first alone). Owner: ctx's arena. */
rg_status rg_spec_load(rg_ctx *ctx, const char *path, rg_spec **spec) RG_CHECKED;

#endif
