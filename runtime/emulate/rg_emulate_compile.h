/* Compiles one text for the host: the part of NVRTC's look-alike that starts processes. */
#ifndef RG_EMULATE_COMPILE_H
#define RG_EMULATE_COMPILE_H

#include "rg_base.h"

enum { RG_EMU_MAX_DEFINES = 32 };

typedef struct rg_emu_compile_job {
    const char *source; /* with the table of kernels */
    size_t source_bytes;
    const char *name; /* of the text, for messages */
    int arch;
    bool flush, checks;
    const char *define[RG_EMU_MAX_DEFINES]; /* "-DNAME=value" */
    int defines;
} rg_emu_compile_job;

/* In a private temporary folder that is removed again. False: *log says why. Owner of *object:
 * caller (free). May run in several threads at once. */
bool rg_emu_compile(const rg_emu_compile_job *job, rg_text *log, char **object, size_t *bytes);

#endif
