/* Inside the template module: embedded files, and the translation of a template into Lua. */
#ifndef RG_TPL_IMPL_H
#define RG_TPL_IMPL_H

#include "rg_lua.h"
#include "rg_tpl.h"

/* A file of templates/; the table ends with a row without name, the bytes with a zero. */
typedef struct rg_tpl_embedded {
    const char *name;
    const char *data;
    size_t length;
} rg_tpl_embedded;

extern const rg_tpl_embedded rg_tpl_embedded_files[];

const rg_tpl_embedded *rg_tpl_find(const char *name);

/* "cuda", the target, and the templates that begin with cu_. */
bool rg_tpl_is_cuda(const char *name);

struct rg_tpl {
    rg_lua *lua;
    rg_ctx *ctx; /* of the call in progress */
    char *isa;
};

/* Translates a template into a Lua chunk with the same number of lines, so that Lua's messages name
 * the template's. The chunk is called with a writer (templates/engine.lua) and a table p. Errors:
 * RG_E_SYNTAX with the line of an unfinished ${. */
rg_status rg_tpl_translate(rg_ctx *ctx, const char *text, const char *name,
                           rg_text *lua) RG_CHECKED;

/* Leaves the description as a Lua table on the stack. */
rg_status rg_tpl_push_desc(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc,
                           bool with_variant) RG_CHECKED;

/* Leaves function `name` of templates/engine.lua on the stack. */
void rg_tpl_push_engine(rg_tpl *tpl, const char *name);

#endif
