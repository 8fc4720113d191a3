/* The parts of the CPU device: child processes (rg_cpu_run.c), the compiler (rg_cpu_compiler.c),
 * the folder of built objects (rg_cpu_cache.c). */
#ifndef RG_CPU_H
#define RG_CPU_H

#include "rg_device_cpu.h"

/* ---- rg_cpu_run.c: child processes ---- */

typedef struct rg_cpu_job {
    char **argv;    /* [0]: absolute path; NULL at the end */
    char **envp;    /* NULL at the end */
    rg_text output; /* its first OUTPUT_BYTES of stdout and stderr. Owner: caller */
    int exit_code;  /* 128 + signal if one ended it; -1: not run, or ended by us */
    /* while it runs */
    int pid, pipe;
} rg_cpu_job;

/* Runs the jobs, at most `parallel` at once, each in a process group of its own and with nothing on
 * its standard input. After the first job that fails no further one is started. `finished` (or
 * NULL) is told of each that succeeded. SIGINT, SIGTERM and SIGHUP end the children and give
 * RG_E_INTERRUPTED; *signal is the number (else 0), which the caller raises again when it has
 * tidied up: the handlers from before are back then. No child is left behind, whatever happens. A
 * job's own failure is no error of this function: see exit_code. One thread at a time (handlers
 * belong to the process). */
rg_status rg_cpu_run(rg_ctx *ctx, rg_cpu_job *job, int count, int parallel,
                     void (*finished)(void *user, rg_cpu_job *job), void *user,
                     int *signal) RG_CHECKED;

/* ---- rg_cpu_compiler.c ---- */

/* Owner: ctx's arena. */
typedef struct rg_cpu_compiler {
    const char *path;
    char *identity; /* path, size, time of change, version line, flags: what an object's hash covers
                       beside its source */
    char *envp[8];  /* of its processes; NULL at the end */
    int env_count;
} rg_cpu_compiler;

/* Errors: RG_E_BUILD with what to install; RG_E_INTERRUPTED (see rg_cpu_run for `signal`). *note: a
 * line for the user, if there is one. */
rg_status rg_cpu_compiler_find(rg_ctx *ctx, const rg_cpu_options *options,
                               rg_cpu_compiler *compiler, const char **note,
                               int *signal) RG_CHECKED;
/* Its own temporary files go into the folder, where they are removed even if it is killed. */
rg_status rg_cpu_compiler_temporary(rg_ctx *ctx, rg_cpu_compiler *compiler,
                                    const char *folder) RG_CHECKED;
/* The job that makes a shared object of one source file. */
rg_status rg_cpu_compiler_job(rg_ctx *ctx, rg_cpu_compiler *compiler, const rg_cpu_options *options,
                              char *input, char *output, rg_cpu_job *job) RG_CHECKED;

/* ---- rg_cpu_cache.c: folders and objects ---- */

/* A new private folder (0700) under $TMPDIR or /tmp. Owner: ctx's arena (the text);
 * rg_cpu_folder_remove (the folder). */
rg_status rg_cpu_folder_new(rg_ctx *ctx, char **path) RG_CHECKED;
/* Removes the folder and the files in it; errors are ignored, since nothing depends on it. */
void rg_cpu_folder_remove(const char *path);

/* The folder for objects: `wanted`, or the user's cache folder; created if need be. Where that is
 * not a folder of this user's own that only they can write, *path is a private temporary folder,
 * *temporary true and *note says why. */
rg_status rg_cpu_cache_open(rg_ctx *ctx, const char *wanted, const char **path, bool *temporary,
                            const char **note) RG_CHECKED;
/* Is there an object whose bytes agree with its .sum? */
bool rg_cpu_cache_has(const char *folder, const char *hash);
/* Takes a built object into the folder, atomically, with its .sum. */
rg_status rg_cpu_cache_put(rg_ctx *ctx, const char *folder, const char *hash,
                           const char *built) RG_CHECKED;

#endif
