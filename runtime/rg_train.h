/* Training and evaluation over an rg_exec. Prints nothing: lines and numbers go to the caller (see
 * rg_report.h). */
#ifndef RG_TRAIN_H
#define RG_TRAIN_H

#include "rg_core.h"

#include <signal.h>

/* One epoch: averages over images. */
typedef struct rg_epoch {
    uint32_t epoch;                 /* from 0 */
    uint64_t steps;                 /* of the training so far */
    uint64_t first_step, last_step; /* trained in this run, of this epoch, from 0 */
    uint64_t images;                /* trained in these */
    double train_loss, train_acc;
    bool validated;
    double valid_loss, valid_acc;
    uint64_t valid_images, valid_count; /* looked at, of how many */
    double train_seconds, seconds;      /* training alone; training and validation */
} rg_epoch;

/* Where the training stands, after each step. */
typedef struct rg_progress {
    uint32_t epoch;
    uint64_t step, steps_per_epoch; /* step: of the epoch, from 0 */
    double loss;                    /* of this step */
    double images_per_second;       /* of this epoch so far */
} rg_progress;

typedef struct rg_train_options {
    const rg_dataset *train, *valid; /* valid may be NULL: no validation */
    uint32_t epochs;
    uint64_t steps;      /* no more than so many, those of `done` included; 0: no limit */
    rg_trained done;     /* before: what the parameters come from */
    uint64_t eval_steps; /* no more batches than so many in an evaluation, 0: all of the set */
    bool shuffle;
    uint64_t seed;
    /* Written after each epoch, when interrupted, and where `done` leaves nothing to train; NULL:
     * not at all. save: the parameters, for
     * PyTorch. checkpoint: all that a later run needs to go on. */
    const char *save, *checkpoint;
    bool print_steps;                  /* a line for each step */
    const volatile sig_atomic_t *stop; /* not 0: finish the step, save, return; may be NULL */
    void (*line)(void *user,
                 const char *text); /* each finished line, without newline; these may be NULL */
    void (*progress)(void *user, const rg_progress *progress);
    void (*evaluating)(void *user, uint64_t step, uint64_t steps); /* before each batch, from 0 */
    void (*epoch)(void *user, const rg_epoch *epoch);
    void *user;
} rg_train_options;

/* Trains. The last, partial batch of an epoch is trained too. *steps_done is the number of all
 * steps, those of the checkpoint included. Errors: RG_E_NUMERIC when the loss is no longer finite
 * (nothing is saved then); RG_E_INTERRUPTED after a stop, with the checkpoint saved. */
rg_status rg_train(rg_ctx *ctx, rg_exec *exec, const rg_train_options *options,
                   uint64_t *steps_done) RG_CHECKED;

typedef struct rg_eval_options {
    const rg_dataset *set;
    uint64_t steps;                    /* no more batches than so many, 0: all of the set */
    const volatile sig_atomic_t *stop; /* as in rg_train_options, and so are these */
    void (*line)(void *user, const char *text);
    void (*evaluating)(void *user, uint64_t step, uint64_t steps);
    void *user;
} rg_eval_options;

typedef struct rg_evaluation {
    double loss, accuracy; /* averages over `images` */
    uint64_t images;
} rg_evaluation;

/* Loss and accuracy over a set, in its order. Errors: RG_E_INTERRUPTED when *stop is set. */
rg_status rg_eval(rg_ctx *ctx, rg_exec *exec, const rg_eval_options *options,
                  rg_evaluation *result) RG_CHECKED;

/* `Valid:(L=1.119623, Acc=0.598596)`; with less than `count` images it says so behind the accuracy.
 */
void rg_evaluation_format(const rg_evaluation *found, uint64_t count, char *text, size_t size);
/* `[ 0] Train:(L=1.506980, Acc=0.449868), Valid:(L=1.119623, Acc=0.598596), T: 00:00:48`; of an
 * epoch that was begun by another run, the steps of this one stand behind the first accuracy. */
void rg_epoch_format(const rg_epoch *epoch, char *text, size_t size);

#endif
