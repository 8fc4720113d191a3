/* What the tests of whole networks share: a spec compiled once, run by its kernels in float and by
 * the graph's interpreter in double, on the same weights and batch. Everything here fails the
 * running test where it cannot go on.
 *
 * Tensors are in the interpreter's order (images N H W C, weights K R S C); files hold PyTorch's
 * (N C H W, K C R S). */
#ifndef RG_PARITY_H
#define RG_PARITY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "driver.h"

typedef struct parity {
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    rg_exec *exec;
    double *
        *param; /* by row of the graph's table: the weights and statistics that both sides run */
} parity;

typedef struct parity_batch {
    int32_t count;
    const double *image; /* [count][H][W][C] */
    const double *label; /* [count] */
} parity_batch;

/* What differs from the usual; zeros are the usual. */
typedef struct parity_options {
    uint32_t batch;      /* 0: the spec's */
    const char *isa;     /* NULL: the machine's */
    const char *variant; /* of convolutions, wherever it applies; NULL: what the cost model picks */
} parity_options;

/* Compiles; `batch` 0: the spec's. */
void parity_open(parity *p, const char *spec, uint32_t batch);
/* The same without failing: the status and the context tell. */
rg_status parity_try_open(parity *p, const char *spec, const parity_options *options);
/* Builds the kernels quickly (-O1) in a cache of the build tree. */
void parity_build(parity *p, int threads);
/* Another executor over the kernels that are built. */
void parity_threads(parity *p, int threads);
void parity_close(parity *p);

/* ---- parameters ---- */

int64_t parity_elements(const parity *p, int32_t row);
/* Element i of PyTorch's order in the interpreter's. */
int64_t parity_reorder(const rg_param *param, int64_t i);
/* C*R*S of the layer that a weight or bias belongs to; 0 for those of a batch norm. */
int64_t parity_fan_in(const parity *p, int32_t row);
int32_t parity_find(const parity *p, const char *name);
/* By the formula of tests/golden, names prefixed. */
void parity_params_by_formula(parity *p, const char *prefix);
/* Element i of each tensor from PyTorch's order of `from` to the interpreter's. */
void parity_from_torch(const rg_param *param, const double *from, double *to);
void parity_to_torch(const rg_param *param, const double *from, double *to);

/* ---- the interpreter ---- */

/* Fills the leaves with parameters and batch, and runs. Owner: caller, rg_interp_free. */
rg_interp *parity_interpret(parity *p, const rg_graph *graph, const parity_batch *batch);
/* A result of the graph; `param` -1 where the kind has none. NULL where there is no such result. */
const double *parity_result(rg_interp *interp, const rg_graph *graph, rg_out_kind kind,
                            int32_t param);

/* ---- the kernels ---- */

/* Writes the parameters and makes the derived values. */
void parity_load(parity *p);
/* NaN wherever a program must write before it reads, then the batch, then the program. */
void parity_run(parity *p, rg_plan_program_id program, const parity_batch *batch, uint64_t step);
/* One of the plan's arenas' tensors, in the interpreter's order. */
void parity_read(parity *p, int32_t row, rg_plan_arena which, double *to);
float parity_loss(parity *p);
/* [count][classes] */
void parity_logits(parity *p, int32_t count, double *to);

/* ---- comparing ---- */

double parity_norm(const double *a, int64_t count);
double parity_distance(const double *a, const double *b, int64_t count);
double parity_largest_difference(const double *a, const double *b, int64_t count);
void *parity_alloc(size_t count, size_t size);

#endif
