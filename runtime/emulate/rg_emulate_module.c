/* Modules: the "cubin" is a shared object, loaded from memory. */
#include "rg_emulate_impl.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RED_ZONE = 128, MAX_OBJECT_BYTES = 256 << 20 };

/* cuModuleLoadData is told no size: the section table ends the file, or a segment does. 0: no
 * object of this machine. */
static size_t object_bytes(const void *image) {
    const Elf64_Ehdr *header = image;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64)
        return 0;
    if (header->e_type != ET_DYN || header->e_phentsize != sizeof(Elf64_Phdr)) return 0;
    size_t end = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    const Elf64_Phdr *segment =
        (const Elf64_Phdr *)(const void *)((const char *)image + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segment[i].p_offset + segment[i].p_filesz > end)
            end = segment[i].p_offset + segment[i].p_filesz;
    return end <= MAX_OBJECT_BYTES ? end : 0;
}

static bool write_all(int file, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t done = write(file, bytes, length);
        if (done <= 0) return false;
        bytes += done;
        length -= (size_t)done;
    }
    return true;
}

/* The loader takes a path that it has seen for the same object, and numbers of files are used
 * again: a count is spelled into the path by parts that mean nothing. */
static void spell_path(char path[128], int file) {
    static unsigned count;
    char *at = path + snprintf(path, 128, "/proc/self/fd");
    count++;
    for (int bit = 0; bit < 32; bit++) at += snprintf(at, 3, count >> bit & 1 ? "/." : "//");
    snprintf(at, 16, "/%d", file);
}

/* Through a file that has no name, and is gone when it has been loaded. */
static void *open_object(const void *image, size_t bytes) {
    char path[128];
    int file = memfd_create("resgen-kernel", MFD_CLOEXEC);
    if (file < 0) return NULL;
    spell_path(path, file);
    void *object = write_all(file, image, bytes) ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    close(file);
    return object;
}

/* ---- where the module's read-only data lies ---- */

static int find_range(struct dl_phdr_info *info, size_t size, void *user) {
    struct CUmod_st *module = user;
    (void)size;
    const char *low = NULL, *high = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD) continue;
        const char *begin = (const char *)(uintptr_t)(info->dlpi_addr + segment->p_vaddr);
        if (!low || begin < low) low = begin;
        if (!high || begin + segment->p_memsz > high) high = begin + segment->p_memsz;
    }
    const char *content = (const char *)(const void *)module->content;
    if (!low || content < low || content >= high) return 0;
    module->low = low;
    module->high = high;
    return 1;
}

bool rg_emu_module_holds(const struct CUmod_st *module, const void *at, size_t bytes) {
    const char *byte = at;
    return byte >= module->low && byte < module->high && bytes <= (size_t)(module->high - byte);
}

/* ---- loading ---- */

/* Places the static arrays one after another, apart from each other. */
static bool place_shared(struct CUmod_st *module) {
    size_t at = RED_ZONE;
    const rg_emulate_module *content = module->content;
    for (rg_emulate_site *site = content->site; site < content->site_end; site++) {
        site->at = at;
        module->static_bytes += site->bytes;
        at = (at + site->bytes + 2 * RED_ZONE - 1) & ~(size_t)(RED_ZONE - 1);
        if (at > RG_EMULATE_SHARED_ROOM / 2) return false;
    }
    module->dynamic_at = at;
    return true;
}

static bool make_functions(struct CUmod_st *module) {
    int count = module->content->kernels;
    module->function = calloc((size_t)(count > 0 ? count : 1), sizeof *module->function);
    if (!module->function) return false;
    for (int i = 0; i < count; i++)
        module->function[i] = (struct CUfunc_st){
            .module = module, .kernel = &module->content->kernel[i], .dynamic_limit = 48 << 10};
    return true;
}

/* A cubin for an architecture runs on later ones of the same generation; sm_87 stands alone. */
static rg_cu_result check_content(const rg_emulate_module *content) {
    if (!content || content->abi != RG_EMULATE_ABI) return RG_CU_INVALID_IMAGE;
    int arch = content->arch, own = rg_emu.option.arch;
    bool alone = arch == 87 || own == 87;
    if (arch / 10 != own / 10 || arch > own || (alone && arch != own))
        return RG_CU_NO_BINARY_FOR_GPU;
    return RG_CU_SUCCESS;
}

rg_cu_result rg_emu_module_load(rg_cu_module *module, const void *image) {
    size_t bytes = image ? object_bytes(image) : 0;
    if (!bytes) return RG_CU_INVALID_IMAGE;
    struct CUmod_st *made = calloc(1, sizeof *made);
    if (!made) return RG_CU_OUT_OF_MEMORY;
    rg_cu_result result = RG_CU_INVALID_IMAGE;
    made->object = open_object(image, bytes);
    made->content = made->object ? dlsym(made->object, "rg_emulate_this_module") : NULL;
    result = check_content(made->content);
    if (result == RG_CU_SUCCESS && !place_shared(made)) result = RG_CU_INVALID_IMAGE;
    if (result == RG_CU_SUCCESS && !make_functions(made)) result = RG_CU_OUT_OF_MEMORY;
    if (result != RG_CU_SUCCESS) {
        if (made->object) dlclose(made->object);
        free(made);
        return result;
    }
    dl_iterate_phdr(find_range, made);
    rg_emu.alive++;
    *module = made;
    return RG_CU_SUCCESS;
}

rg_cu_result rg_emu_module_unload(rg_cu_module module) {
    if (!module) return RG_CU_INVALID_HANDLE;
    dlclose(module->object);
    free(module->function);
    free(module);
    rg_emu.alive--;
    return RG_CU_SUCCESS;
}
