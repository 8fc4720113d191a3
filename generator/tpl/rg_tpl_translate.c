/* From a template to Lua: one line of Lua for each line of the template. */
#include <string.h>

#include "rg_tpl_impl.h"

/* A Lua string literal; `newline` appends one to the text. */
static void add_quoted(rg_text *lua, const char *text, size_t length, bool newline) {
    rg_text_add(lua, "\"");
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"' || text[i] == '\\') rg_text_add(lua, "\\");
        rg_text_add_bytes(lua, &text[i], 1);
    }
    rg_text_add(lua, newline ? "\\n\"" : "\"");
}

static void add_literal(rg_text *lua, const char *text, size_t length, bool newline) {
    if (length == 0 && !newline) return;
    rg_text_add(lua, "_o:text(");
    add_quoted(lua, text, length, newline);
    rg_text_add(lua, ") ");
}

/* The end of a Lua string that begins at `at`; `end` where it does not end. */
static const char *skip_string(const char *at, const char *end) {
    char quote = *at++;
    while (at < end && *at != quote) at += *at == '\\' ? 2 : 1;
    return at < end ? at : end;
}

/* The brace that closes an expression, NULL where there is none on the line. */
static const char *closing_brace(const char *at, const char *end) {
    int depth = 1;
    for (; at < end; at++) {
        if (*at == '"' || *at == '\'')
            at = skip_string(at, end);
        else if (*at == '{')
            depth++;
        else if (*at == '}' && --depth == 0)
            return at;
        if (at >= end) break;
    }
    return NULL;
}

static const char *find_expr(const char *at, const char *end) {
    for (; at + 1 < end; at++)
        if (at[0] == '$' && at[1] == '{') return at;
    return NULL;
}

static bool all_blank(const char *at, const char *end) {
    while (at < end && *at == ' ') at++;
    return at == end;
}

/* A line that is an indented ${expr} and nothing else. */
static bool add_block_line(rg_text *lua, const char *line, const char *end) {
    const char *open = find_expr(line, end);
    const char *close = open ? closing_brace(open + 2, end) : NULL;
    if (!close || !all_blank(line, open) || !all_blank(close + 1, end)) return false;
    rg_text_add(lua, "_o:block(");
    add_quoted(lua, line, (size_t)(open - line), false);
    rg_text_add(lua, ", %.*s)", (int)(close - open - 2), open + 2);
    return true;
}

/* false: a ${ does not end. */
static bool add_text_line(rg_text *lua, const char *line, const char *end) {
    if (add_block_line(lua, line, end)) return true;
    for (const char *open; (open = find_expr(line, end)) != NULL;) {
        const char *close = closing_brace(open + 2, end);
        if (!close) return false;
        add_literal(lua, line, (size_t)(open - line), false);
        rg_text_add(lua, "_o:put(%.*s) ", (int)(close - open - 2), open + 2);
        line = close + 1;
    }
    add_literal(lua, line, (size_t)(end - line), true);
    return true;
}

static bool is_lua_line(const char *line, const char *end) {
    return line < end && line[0] == '%' && (line + 1 == end || line[1] == ' ');
}

rg_status rg_tpl_translate(rg_ctx *ctx, const char *text, const char *name, rg_text *lua) {
    rg_text_add(lua, "local _o, p = ... ");
    for (int number = 1; *text; number++) {
        const char *end = strchr(text, '\n');
        if (!end) end = text + strlen(text);
        if (is_lua_line(text, end))
            rg_text_add_bytes(lua, text + 1, (size_t)(end - text - 1));
        else if (!add_text_line(lua, text, end))
            return rg_error(ctx, RG_E_SYNTAX, (rg_loc){name, number}, "${ without its }");
        rg_text_add(lua, "\n");
        text = *end ? end + 1 : end;
    }
    return lua->failed ? rg_nomem(ctx) : RG_OK;
}
