/* A strict reader for the one JSON document that the runtime meets, a safetensors header: objects
 * of objects, strings, whole numbers. The caller asks for what must come next, so nothing recurses
 * and a value of another kind is an error at once. */
#ifndef RG_JSON_H
#define RG_JSON_H

#include "rg_base.h"

typedef struct rg_json {
    char *at, *end; /* end[0] may be read and is not part of the text */
    const char *start;
    const char
        *problem; /* NULL, or what is wrong at `at`; sticks, and every later call returns false */
} rg_json;

/* The text must be UTF-8 throughout; it is changed in place as strings are unescaped. */
void rg_json_init(rg_json *json, char *text, size_t length);
/* Takes `mark` if it is next. */
bool rg_json_accept(rg_json *json, char mark);
/* Takes `mark`, which must be next; `problem` is the sentence if it is not. */
bool rg_json_expect(rg_json *json, char mark, const char *problem);
/* A string, unescaped and terminated in place; a zero character in it is an error. */
bool rg_json_string(rg_json *json, const char **value);
/* A whole number from 0 to 2^64 - 1. */
bool rg_json_number(rg_json *json, uint64_t *value);
/* True at the end of the text, spaces aside. */
bool rg_json_at_end(rg_json *json);
/* Records `problem` unless there is one already; false, so that `return rg_json_fail(...)` reads
 * well. */
bool rg_json_fail(rg_json *json, const char *problem);

/* A string of a document made fit for a message: no control characters, cut where it is long.
 * Returns `buffer`. */
enum { RG_JSON_SHOWN = 96 };
const char *rg_json_shown(const char *text, char buffer[RG_JSON_SHOWN]);

#endif
