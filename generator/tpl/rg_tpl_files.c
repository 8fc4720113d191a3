/* The embedded files of templates/, and which of them a template depends on. */
#include "rg_tpl_impl.h"

#include <string.h>

const rg_tpl_embedded *rg_tpl_find(const char *name) {
    for (const rg_tpl_embedded *file = rg_tpl_embedded_files; file->name; file++)
        if (strcmp(file->name, name) == 0) return file;
    return NULL;
}

const char *rg_tpl_file(const char *name) {
    const rg_tpl_embedded *file = rg_tpl_find(name);
    return file ? file->data : NULL;
}

bool rg_tpl_is_cuda(const char *name) {
    return strncmp(name, "cu", 2) == 0;
}

/* Files that are read for every template of a target: those that CUDA alone reads begin with cu_lib
 * or end with .cu.tpl. */
static bool is_shared(const char *name, bool cuda) {
    if (strcmp(name, "engine.lua") == 0 || strncmp(name, "lib", 3) == 0) return true;
    if (strncmp(name, "cu_lib", 6) == 0) return cuda;
    return strncmp(name, "prelude", 7) == 0 && (strstr(name, ".cu.tpl") != NULL) == cuda;
}

static void add_file(rg_text *text, const rg_tpl_embedded *file) {
    rg_text_add(text, "\n==== %s\n", file->name);
    rg_text_add_bytes(text, file->data, file->length);
}

/* A template and, by their `include("name"`, those that it includes; `depth` ends a circle. */
static void add_template(rg_text *text, const char *name, size_t length, int depth) {
    static const char mark[] = "include(\"";
    const rg_tpl_embedded *file = rg_tpl_embedded_files;
    while (file->name && (strlen(file->name) != length || memcmp(file->name, name, length) != 0))
        file++;
    if (!file->name || depth > 8) return;
    add_file(text, file);
    for (const char *at = file->data; (at = strstr(at, mark)) != NULL;) {
        at += sizeof mark - 1;
        add_template(text, at, strcspn(at, "\""), depth + 1);
    }
}

void rg_tpl_sources(rg_text *text, const char *name) {
    add_template(text, name, strlen(name), 0);
    for (const rg_tpl_embedded *file = rg_tpl_embedded_files; file->name; file++)
        if (is_shared(file->name, rg_tpl_is_cuda(name))) add_file(text, file);
}
