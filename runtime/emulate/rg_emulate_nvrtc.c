/* libnvrtc's look-alike: the CUDA text is compiled for the host by g++, against the emulator's
 * prelude; the shared object is the cubin. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>

#include "rg_emulate_compile.h"

struct _nvrtcProgram {
    char *source, *name;
    rg_text log;
    char *object;
    size_t object_bytes;
};

static const char ptx_text[] = "// emulated: a host object, no PTX\n";

/* ---- programs ---- */

static rg_nvrtc_result emu_version(int *major, int *minor) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcVersion)) return RG_NVRTC_INVALID_PROGRAM;
    *major = 13;
    *minor = 0;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_destroy(rg_nvrtc_program *program) {
    if (!program || !*program) return RG_NVRTC_INVALID_PROGRAM;
    free((*program)->source);
    free((*program)->name);
    free((*program)->object);
    rg_text_free(&(*program)->log);
    free(*program);
    *program = NULL;
    return rg_emu_released(RG_EMU_CALL_nvrtcDestroyProgram, RG_NVRTC_INVALID_PROGRAM,
                           RG_NVRTC_SUCCESS);
}

static rg_nvrtc_result emu_create(rg_nvrtc_program *program, const char *source, const char *name,
                                  int headers, const char *const *header,
                                  const char *const *include) {
    (void)header;
    (void)include;
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcCreateProgram)) return RG_NVRTC_OUT_OF_MEMORY;
    if (!source || headers != 0) return RG_NVRTC_INVALID_PROGRAM;
    struct _nvrtcProgram *made = calloc(1, sizeof *made);
    if (!made) return RG_NVRTC_OUT_OF_MEMORY;
    made->source = strdup(source);
    made->name = strdup(name && *name ? name : "kernel.cu");
    if (!made->source || !made->name) {
        free(made->source);
        free(made->name);
        free(made);
        return RG_NVRTC_OUT_OF_MEMORY;
    }
    *program = made;
    return RG_NVRTC_SUCCESS;
}

/* ---- options ---- */

static const char *const ignored[] = {"--std=c++17",
                                      "-std=c++17",
                                      "--fmad=false",
                                      "-fmad=false",
                                      "--ftz=false",
                                      "-ftz=false",
                                      "--prec-div=true",
                                      "-prec-div=true",
                                      "--prec-sqrt=true",
                                      "-prec-sqrt=true",
                                      "--restrict",
                                      "-restrict",
                                      "--generate-line-info",
                                      "-lineinfo",
                                      "--disable-warnings",
                                      "-w",
                                      "--device-as-default-execution-space",
                                      "-default-device",
                                      "--extra-device-vectorization",
                                      "-extra-device-vectorization"};
static const char *const ignored_starts[] = {
    "--ptxas-options",  "-Xptxas",          "--maxrregcount=", "-maxrregcount=",
    "--split-compile=", "--diag-suppress=", "-diag-suppress="};

static bool is_ignored(const char *option) {
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (strcmp(option, ignored[i]) == 0) return true;
    for (size_t i = 0; i < sizeof ignored_starts / sizeof *ignored_starts; i++)
        if (strncmp(option, ignored_starts[i], strlen(ignored_starts[i])) == 0) return true;
    return false;
}

static const char *after(const char *option, const char *start) {
    size_t length = strlen(start);
    return strncmp(option, start, length) == 0 ? option + length : NULL;
}

/* "sm_90a" and "compute_90" are 90. */
static bool read_arch(const char *option, int *arch) {
    const char *value = after(option, "--gpu-architecture=");
    if (!value) value = after(option, "-arch=");
    if (!value) return false;
    const char *number = after(value, "sm_");
    if (!number) number = after(value, "compute_");
    *arch = number ? atoi(number) : 0;
    return *arch > 0;
}

/* What NVRTC has and the emulator cannot honour is refused, as what NVRTC does not know. */
static rg_nvrtc_result read_options(struct _nvrtcProgram *program, int count,
                                    const char *const *option, rg_emu_compile_job *job) {
    for (int i = 0; i < count; i++) {
        if (read_arch(option[i], &job->arch) || is_ignored(option[i])) continue;
        if (strcmp(option[i], "--ftz=true") == 0 || strcmp(option[i], "-ftz=true") == 0) {
            job->flush = true;
        } else if (option[i][0] == '-' && option[i][1] == 'D' && option[i][2] &&
                   job->defines < RG_EMU_MAX_DEFINES) {
            job->define[job->defines++] = option[i];
        } else {
            rg_text_add(&program->log, "nvrtc: error: unrecognized option %s\n", option[i]);
            return RG_NVRTC_INVALID_OPTION;
        }
    }
    if (rg_emu_arch_of(job->arch)) return RG_NVRTC_SUCCESS;
    rg_text_add(&program->log, "nvrtc: error: invalid value for --gpu-architecture (sm_%d)\n",
                job->arch);
    return RG_NVRTC_INVALID_OPTION;
}

/* ---- the text ---- */

static bool is_word(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Does a macro's definition stand here? */
static bool after_define(const char *text, const char *at) {
    while (at > text && (at[-1] == ' ' || at[-1] == '\t')) at--;
    return at - text >= 6 && memcmp(at - 6, "define", 6) == 0;
}

static const char *next_kernel(const char *text, const char *from) {
    static const char mark[] = "RG_KERNEL";
    for (const char *at = from; (at = strstr(at, mark)); at += sizeof mark - 1) {
        bool whole = (at == text || !is_word(at[-1])) && !is_word(at[sizeof mark - 1]);
        if (whole && !after_define(text, at)) return at + sizeof mark - 1;
    }
    return NULL;
}

/* The word before a parenthesis that is no attribute is the kernel's name: its entry goes to the
 * table. Returns where it ended. */
static const char *add_entry(rg_text *text, const char *at) {
    const char *word = NULL, *end = NULL;
    int bound = 0, depth = 0;
    for (; *at && *at != '{' && *at != ';'; at++) {
        if (*at == '(' && depth++ == 0 && end) {
            if ((size_t)(end - word) == strlen("RG_BOUNDS") &&
                memcmp(word, "RG_BOUNDS", strlen("RG_BOUNDS")) == 0)
                bound = atoi(at + 1);
            else
                rg_text_add(text, "    RG_EMULATE_ENTRY(%.*s, %d)\n", (int)(end - word), word,
                            bound);
        }
        if (*at == ')') depth--;
        if (!is_word(*at) || depth != 0) continue;
        word = at;
        while (is_word(at[1])) at++;
        end = at + 1;
    }
    return at;
}

/* The text as it is, then the table of its kernels. False: it has none. */
static bool complete_source(const char *source, const rg_emu_compile_job *job, rg_text *text) {
    rg_text_add_bytes(text, source, strlen(source));
    rg_text_add(text, "\nstatic const rg_emulate_kernel rg_emulate_kernels[] = {\n");
    size_t before = text->length;
    for (const char *at = source; (at = next_kernel(source, at));) at = add_entry(text, at);
    bool any = text->length > before;
    rg_text_add(text, "};\nRG_EMULATE_MODULE(%d, %d, %d)\n", job->arch, !rg_emu.option.no_checks,
                job->flush);
    return any;
}

/* ---- compilation ---- */

static rg_nvrtc_result compile_text(struct _nvrtcProgram *program, rg_emu_compile_job *job) {
    rg_text text = {0};
    rg_nvrtc_result result = RG_NVRTC_COMPILATION;
    if (!complete_source(program->source, job, &text)) {
        rg_text_add(&program->log, "%s: error: no RG_KERNEL in the text\n", program->name);
    } else if (text.failed) {
        result = RG_NVRTC_OUT_OF_MEMORY;
    } else {
        job->source = text.data;
        job->source_bytes = text.length;
        job->name = program->name;
        job->checks = !rg_emu.option.no_checks;
        if (rg_emu_compile(job, &program->log, &program->object, &program->object_bytes))
            result = RG_NVRTC_SUCCESS;
    }
    rg_text_free(&text);
    return result;
}

static rg_nvrtc_result emu_compile(rg_nvrtc_program program, int options,
                                   const char *const *option) {
    if (!program) return RG_NVRTC_INVALID_PROGRAM;
    rg_text_free(&program->log);
    program->log = (rg_text){0};
    free(program->object);
    program->object = NULL;
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcCompileProgram)) {
        rg_text_add(&program->log, "%s: error: injected failure\n", program->name);
        return RG_NVRTC_COMPILATION;
    }
    rg_emu_compile_job job = {.arch = rg_emu.option.arch};
    rg_nvrtc_result result = read_options(program, options, option, &job);
    return result == RG_NVRTC_SUCCESS ? compile_text(program, &job) : result;
}

/* ---- results ---- */

static rg_nvrtc_result emu_cubin_size(rg_nvrtc_program program, size_t *bytes) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetCUBINSize) || !program || !program->object)
        return RG_NVRTC_INVALID_PROGRAM;
    *bytes = program->object_bytes;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_cubin(rg_nvrtc_program program, char *cubin) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetCUBIN) || !program || !program->object)
        return RG_NVRTC_INVALID_PROGRAM;
    memcpy(cubin, program->object, program->object_bytes);
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_ptx_size(rg_nvrtc_program program, size_t *bytes) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetPTXSize) || !program || !program->object)
        return RG_NVRTC_INVALID_PROGRAM;
    *bytes = sizeof ptx_text;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_ptx(rg_nvrtc_program program, char *ptx) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetPTX) || !program || !program->object)
        return RG_NVRTC_INVALID_PROGRAM;
    memcpy(ptx, ptx_text, sizeof ptx_text);
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_log_size(rg_nvrtc_program program, size_t *bytes) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetProgramLogSize) || !program)
        return RG_NVRTC_INVALID_PROGRAM;
    *bytes = program->log.length + 1;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result emu_log(rg_nvrtc_program program, char *log) {
    if (rg_emu_call_fails(RG_EMU_CALL_nvrtcGetProgramLog) || !program)
        return RG_NVRTC_INVALID_PROGRAM;
    if (program->log.length) memcpy(log, program->log.data, program->log.length);
    log[program->log.length] = '\0';
    return RG_NVRTC_SUCCESS;
}

static const char *emu_error_string(rg_nvrtc_result result) {
    switch (result) {
    case RG_NVRTC_SUCCESS:
        return "NVRTC_SUCCESS";
    case RG_NVRTC_OUT_OF_MEMORY:
        return "NVRTC_ERROR_OUT_OF_MEMORY";
    case RG_NVRTC_INVALID_PROGRAM:
        return "NVRTC_ERROR_INVALID_PROGRAM";
    case RG_NVRTC_INVALID_OPTION:
        return "NVRTC_ERROR_INVALID_OPTION";
    case RG_NVRTC_COMPILATION:
        return "NVRTC_ERROR_COMPILATION";
    default:
        return "NVRTC_ERROR unknown";
    }
}

void rg_emu_nvrtc_fill(rg_cuda_nvrtc *nvrtc) {
    nvrtc->version = emu_version;
    nvrtc->create = emu_create;
    nvrtc->destroy = emu_destroy;
    nvrtc->compile = emu_compile;
    nvrtc->cubin_size = emu_cubin_size;
    nvrtc->cubin = emu_cubin;
    nvrtc->ptx_size = emu_ptx_size;
    nvrtc->ptx = emu_ptx;
    nvrtc->log_size = emu_log_size;
    nvrtc->log = emu_log;
    nvrtc->error_string = emu_error_string;
}
