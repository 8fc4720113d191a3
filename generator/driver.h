/* The command layer: the only part that sees every module, prints and reads options. */
#ifndef RG_DRIVER_H
#define RG_DRIVER_H

#include <stdio.h>

#include "rg_device_cpu.h"
#include "rg_harness_cuda.h"
#include "rg_planner.h"
#include "rg_spec.h"
#include "rg_train.h"

#define RG_EVAL_UNSET UINT64_MAX

typedef struct rg_cli {
    const char *command; /* "build" where none is given */
    const char *spec;
    const char *target, *device, *isa, *data, *init, *save, *resume, *out, *dump, *cc, *cache,
        *only;
    const char *arch, *cuda_path, *precision;
    int threads; /* 0: as many as processors */
    uint64_t seed, steps;
    uint32_t epochs, batch; /* 0: the spec's */
    uint64_t eval_steps;    /* batches of an evaluation; RG_EVAL_UNSET: as the command does */
    bool seed_given, no_shuffle, json, quiet, step_only, sanitize, stream;
    int optimise;
} rg_cli;

/* A spec on its way through the stages. */
typedef struct rg_job {
    rg_ctx *ctx;
    const rg_cli *cli;
    rg_spec *spec;
    rg_graph
        *train_graph; /* after `grad`, before `decompose`: what the reference interpreter runs */
    rg_graph *eval_graph; /* in inference form, before `fold` */
    rg_target target;
    rg_tpl *tpl;
    rg_planned planned;
    /* built kernels */
    rg_cpu_library *library;
    rg_cpu_kernel *kernel; /* by plan kernel */
    rg_cpu_source *source; /* by plan kernel */
    rg_cpu_stats stats;
    struct rg_job_cuda *cuda; /* NULL: another target (driver_cuda.c) */
} rg_job;

/* Options. RG_E_USAGE with one line for each mistake. */
rg_status rg_cli_parse(rg_ctx *ctx, int argc, char **argv, rg_cli *cli) RG_CHECKED;
const char *rg_cli_usage(void);

/* Spec to plan; prints the stage that --dump asks for. */
rg_status rg_job_compile(rg_job *job) RG_CHECKED;
/* Emits and builds every kernel of the plan. */
rg_status rg_job_build(rg_job *job) RG_CHECKED;
void rg_job_close(rg_job *job);
/* Threads in use: --threads, else as many as processors. */
int rg_job_threads(const rg_job *job);
/* The kernel of the plan that a launch runs. */
uint32_t rg_job_kernel_of(const rg_job *job, const rg_launch *launch);

/* What executes the plan's programs on the device that is wanted. Owner: caller, rg_exec_free. */
rg_status rg_job_exec(rg_job *job, rg_exec **exec) RG_CHECKED;
/* One kernel of the plan, as built, against the interpreter. */
rg_status rg_job_check(rg_job *job, const rg_launch *launch, int32_t live, uint64_t seed,
                       rg_harness_result *result) RG_CHECKED;

/* The same for the CUDA target (driver_cuda.c). open: libraries, device, architecture and
 * job->target; only what the command needs is looked for. has_cubins: are there objects that are of
 * use elsewhere (the emulator's are not)? write: those, beside the sources. print: the compiler's
 * report of each kernel. */
rg_status rg_job_cuda_open(rg_job *job) RG_CHECKED;
void rg_job_cuda_close(rg_job *job);
rg_status rg_job_cuda_build(rg_job *job) RG_CHECKED;
bool rg_job_cuda_has_cubins(const rg_job *job);
rg_status rg_job_cuda_write(rg_job *job, const char *folder) RG_CHECKED;
rg_status rg_job_cuda_exec(rg_job *job, rg_exec **exec) RG_CHECKED;
rg_status rg_job_cuda_check(rg_job *job, const rg_launch *launch, int32_t live, uint64_t seed,
                            rg_harness_result *result) RG_CHECKED;
void rg_job_cuda_print(const rg_job *job);
/* Version and place of what built the kernels. */
const char *rg_job_cuda_nvrtc(const rg_job *job);
/* Builds sources that are not the plan's; the device for a harness (owner: caller,
 * rg_harness_cuda_close). */
rg_status rg_job_cuda_objects(rg_job *job, const rg_cuda_source *source, int count,
                              rg_cuda_object *object, rg_cuda_stats *stats) RG_CHECKED;
rg_status rg_job_cuda_harness(rg_job *job, rg_harness_cuda *on) RG_CHECKED;

/* The commands. */
rg_status rg_command_build(rg_job *job) RG_CHECKED;
rg_status rg_command_train(rg_job *job) RG_CHECKED;
rg_status rg_command_eval(rg_job *job) RG_CHECKED;
rg_status rg_command_verify(rg_job *job) RG_CHECKED;
rg_status rg_command_bench(rg_job *job) RG_CHECKED;
rg_status rg_command_explain(rg_job *job) RG_CHECKED;
/* Training by the graph's interpreter, in double (--device=reference). */
rg_status rg_reference_train(rg_job *job) RG_CHECKED;

/* CIFAR-10 or the synthetic set as --data and the spec say; *told is a line for the user. Owner:
 * caller frees both sets. */
rg_status rg_job_data(rg_job *job, rg_dataset *train, rg_dataset *valid,
                      const char **told) RG_CHECKED;

/* main without exit: 0 done, 1 failed, 2 usage, 130 interrupted. */
int rg_driver_main(int argc, char **argv);

#endif
