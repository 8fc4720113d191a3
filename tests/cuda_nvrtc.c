/* Stands in NVRTC's place: whatever it is given, the cubin is the same few bytes. */
#include "rg_cuda_api.h"

#include <string.h>

static const char cubin[] = "\177ELF, by no compiler";

#define X(field, symbol, parameters) rg_nvrtc_result symbol parameters;
RG_CUDA_NVRTC_LIST(X)
#undef X
const char *nvrtcGetErrorString(rg_nvrtc_result result);

rg_nvrtc_result nvrtcVersion(int *major, int *minor) {
    *major = 11;
    *minor = 99; /* there is none: nobody else's cubins have this key */
    return RG_NVRTC_SUCCESS;
}

rg_nvrtc_result nvrtcCreateProgram(rg_nvrtc_program *program, const char *source, const char *name,
                                   int headers, const char *const *header,
                                   const char *const *include) {
    (void)source, (void)name, (void)headers, (void)header, (void)include;
    *program = NULL;
    return RG_NVRTC_SUCCESS;
}

rg_nvrtc_result nvrtcDestroyProgram(rg_nvrtc_program *program) {
    (void)program;
    return RG_NVRTC_SUCCESS;
}

rg_nvrtc_result nvrtcCompileProgram(rg_nvrtc_program program, int options,
                                    const char *const *option) {
    (void)program, (void)options, (void)option;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result put_bytes(size_t *bytes, size_t count) {
    *bytes = count;
    return RG_NVRTC_SUCCESS;
}

static rg_nvrtc_result put_text(char *to, const char *text) {
    strcpy(to, text);
    return RG_NVRTC_SUCCESS;
}

rg_nvrtc_result nvrtcGetCUBINSize(rg_nvrtc_program program, size_t *bytes) {
    (void)program;
    return put_bytes(bytes, sizeof cubin);
}

rg_nvrtc_result nvrtcGetCUBIN(rg_nvrtc_program program, char *to) {
    (void)program;
    return put_text(to, cubin);
}

rg_nvrtc_result nvrtcGetPTXSize(rg_nvrtc_program program, size_t *bytes) {
    (void)program;
    return put_bytes(bytes, 1);
}

rg_nvrtc_result nvrtcGetPTX(rg_nvrtc_program program, char *to) {
    (void)program;
    return put_text(to, "");
}

rg_nvrtc_result nvrtcGetProgramLogSize(rg_nvrtc_program program, size_t *bytes) {
    (void)program;
    return put_bytes(bytes, 1);
}

rg_nvrtc_result nvrtcGetProgramLog(rg_nvrtc_program program, char *to) {
    (void)program;
    return put_text(to, "");
}

const char *nvrtcGetErrorString(rg_nvrtc_result result) {
    (void)result;
    return "no error of this one";
}
