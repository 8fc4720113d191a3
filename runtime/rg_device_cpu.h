/* Builds emitted C with the system's compiler and loads it: no shell, in parallel, cached by
 * content. */
#ifndef RG_DEVICE_CPU_H
#define RG_DEVICE_CPU_H

#include "rg_plan.h"

typedef struct rg_cpu_source {
    const char *symbol, *key; /* key: 32 hex digits of description and template */
    const char *source;       /* complete C text */
} rg_cpu_source;

typedef struct rg_cpu_options {
    const char *isa;       /* "avx2", "avx512" */
    const char *cc;        /* NULL: $CC if it is a plain path or name, else cc */
    const char *cache_dir; /* NULL: $XDG_CACHE_HOME/resgen or ~/.cache/resgen; a folder that cannot
                              be written: a private temporary one, with a note */
    int jobs;              /* 0: number of processors */
    int optimise;          /* 0..3; 3 unless tests say otherwise */
    bool sanitize;         /* the kernels too are built with -fsanitize=address,undefined */
    void (*progress)(void *user, int done, int total); /* may be NULL */
    void *user;
} rg_cpu_options;

typedef struct rg_cpu_stats {
    int compiled, cached;
    double seconds;
    const char *cache_dir; /* in use. Owner: ctx's arena */
    const char *note;      /* one line for the user, or NULL */
} rg_cpu_stats;

typedef struct rg_cpu_library rg_cpu_library;

/* Sources with the same key are built once. kernel[i] receives source[i]'s function. Cached objects
 * are <hash>.so, where the hash covers key, compiler identity (path, size, time of change, version
 * line), flags; a .sum file beside each holds the object's own hash and is checked before dlopen.
 * Written atomically, safe for processes that share the folder. Compiler errors: RG_E_BUILD with
 * the compiler's first error line; no compiler: RG_E_BUILD saying which package to install. Owner:
 * caller, rg_cpu_close (kernels are invalid after it). */
rg_status rg_cpu_build(rg_ctx *ctx, const rg_cpu_source *source, int count,
                       const rg_cpu_options *options, rg_cpu_kernel *kernel, rg_cpu_stats *stats,
                       rg_cpu_library **library) RG_CHECKED;
void rg_cpu_close(rg_cpu_library *library);

/* "avx512", "avx2", or NULL if the processor has neither. */
const char *rg_cpu_native_isa(void);

#endif
