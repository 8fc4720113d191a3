/* The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes without
 * gap or overlap. */
#include "rg_core.h"
#include "rg_json.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are stored as they lie in memory");

enum {
    PREFIX = 8,             /* the header's length */
    HEADER_MAX = 100000000, /* the format's own limit */
    RANK_MAX = 8,
    ENTRY_MIN = 48, /* characters of the shortest entry:
                       "":{"dtype":"U8","shape":[],"data_offsets":[0,1]} */
    META_MIN = 6,   /* "":"", */
};
static const size_t file_limit = (size_t)1 << 36;

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"F32", 32},    {"F64", 64}, {"I64", 64},    {"I32", 32},    {"I16", 16},
    {"I8", 8},      {"U8", 8},   {"U16", 16},    {"U32", 32},    {"U64", 64},
    {"BOOL", 8},    {"F16", 16}, {"BF16", 16},   {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"F8_E8M0", 8}, {"C64", 64}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
};

typedef struct parse {
    rg_ctx *ctx;
    rg_arena *arena;
    const char *path;
    rg_json json;
    size_t header_length;
    const uint8_t *data; /* first byte after the header */
    uint64_t data_length;
    rg_safetensors *file;
} parse;

static rg_status fail_header(parse *p, const char *name) {
    const char *problem = p->json.problem ? p->json.problem : "it is not as the format says";
    long at = (long)(p->json.at - p->json.start);
    char text[RG_JSON_SHOWN];
    if (name)
        return rg_fail(p->ctx, RG_E_FORMAT, "'%s': tensor '%s': header, character %ld: %s", p->path,
                       rg_json_shown(name, text), at, problem);
    return rg_fail(p->ctx, RG_E_FORMAT, "'%s': header, character %ld: %s", p->path, at, problem);
}

/* ---- one entry ---- */

/* elements * bits / 8; false where that is no whole number of bytes or too large. */
static bool tensor_bytes(const rg_tensor_entry *entry, uint64_t *bytes) {
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(entry->dtype, dtypes[i].name) == 0) total = dtypes[i].bits;
    *bytes = 0;
    for (uint32_t i = 0; i < entry->rank; i++)
        if (entry->shape[i] == 0) return true;
    for (uint32_t i = 0; i < entry->rank; i++)
        if (__builtin_mul_overflow(total, entry->shape[i], &total)) return false;
    *bytes = total / 8;
    return total % 8 == 0;
}

static bool read_dtype(rg_json *json, rg_tensor_entry *entry) {
    const char *text;
    if (!rg_json_string(json, &text)) return false;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(text, dtypes[i].name) == 0) entry->dtype = dtypes[i].name;
    return entry->dtype || rg_json_fail(json, "unknown dtype");
}

static bool read_shape(rg_json *json, rg_tensor_entry *entry) {
    if (!rg_json_expect(json, '[', "a shape is a list of numbers")) return false;
    if (rg_json_accept(json, ']')) return true;
    do {
        if (entry->rank == RANK_MAX)
            return rg_json_fail(json, "a shape has more than 8 dimensions");
        if (!rg_json_number(json, &entry->shape[entry->rank++])) return false;
    } while (rg_json_accept(json, ','));
    return rg_json_expect(json, ']', "a shape is not closed");
}

static bool read_offsets(rg_json *json, uint64_t *begin, uint64_t *end) {
    return rg_json_expect(json, '[', "data_offsets is a list of two numbers") &&
           rg_json_number(json, begin) &&
           rg_json_expect(json, ',', "data_offsets is a list of two numbers") &&
           rg_json_number(json, end) &&
           rg_json_expect(json, ']', "data_offsets is a list of two numbers");
}

/* The object of one tensor: its three keys, each once, in any order. */
static bool read_keys(rg_json *json, rg_tensor_entry *entry, uint64_t *begin, uint64_t *end) {
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    unsigned seen = 0;
    if (!rg_json_expect(json, '{', "a tensor is an object")) return false;
    do {
        const char *key;
        if (!rg_json_string(json, &key) || !rg_json_expect(json, ':', "':' is expected"))
            return false;
        unsigned which = 0;
        while (which < 3 && strcmp(key, keys[which]) != 0) which++;
        if (which == 3) return rg_json_fail(json, "a key other than dtype, shape and data_offsets");
        if (seen & 1u << which) return rg_json_fail(json, "a key comes twice");
        seen |= 1u << which;
        bool good = which == 0   ? read_dtype(json, entry)
                    : which == 1 ? read_shape(json, entry)
                                 : read_offsets(json, begin, end);
        if (!good) return false;
    } while (rg_json_accept(json, ','));
    if (!rg_json_expect(json, '}', "the object is not closed")) return false;
    return seen == 7 || rg_json_fail(json, "dtype, shape or data_offsets is missing");
}

static rg_status read_entry(parse *p, const char *name) {
    rg_tensor_entry entry = {.name = name};
    uint64_t begin = 0, end = 0, need;
    char text[RG_JSON_SHOWN];
    if (!read_keys(&p->json, &entry, &begin, &end) || !entry.dtype) return fail_header(p, name);
    if (begin > end || end > p->data_length)
        return rg_fail(p->ctx, RG_E_FORMAT,
                       "'%s': tensor '%s': bytes %llu to %llu, but the file has %llu", p->path,
                       rg_json_shown(name, text), (unsigned long long)begin,
                       (unsigned long long)end, (unsigned long long)p->data_length);
    if (!tensor_bytes(&entry, &need) || need != end - begin)
        return rg_fail(p->ctx, RG_E_FORMAT,
                       "'%s': tensor '%s': %llu bytes do not make its shape of %s", p->path,
                       rg_json_shown(name, text), (unsigned long long)(end - begin), entry.dtype);
    entry.data = p->data + begin;
    entry.bytes = need;
    p->file->entry[p->file->count++] = entry;
    return RG_OK;
}

/* ---- the header ---- */

static rg_status read_metadata(parse *p) {
    rg_json *json = &p->json;
    if (p->file->meta)
        return rg_fail(p->ctx, RG_E_FORMAT, "'%s': __metadata__ comes twice", p->path);
    size_t most = (size_t)(json->end - json->at) / META_MIN + 1;
    const char *(*meta)[2] = rg_arena_alloc(p->arena, most, sizeof *meta);
    if (!meta) return rg_nomem(p->ctx);
    p->file->meta = meta;
    if (!rg_json_expect(json, '{', "__metadata__ is an object of strings"))
        return fail_header(p, NULL);
    if (rg_json_accept(json, '}')) return RG_OK;
    do {
        const char **pair = meta[p->file->meta_count];
        if (!rg_json_string(json, &pair[0]) || !rg_json_expect(json, ':', "':' is expected") ||
            !rg_json_string(json, &pair[1]))
            return fail_header(p, NULL);
        p->file->meta_count++;
    } while (rg_json_accept(json, ','));
    return rg_json_expect(json, '}', "__metadata__ is not closed") ? RG_OK : fail_header(p, NULL);
}

static rg_status read_header(parse *p) {
    rg_json *json = &p->json;
    p->file->entry = RG_NEW_ARRAY(p->arena, rg_tensor_entry, p->header_length / ENTRY_MIN + 1);
    if (!p->file->entry) return rg_nomem(p->ctx);
    if (!rg_json_expect(json, '{', "an object is expected")) return fail_header(p, NULL);
    if (!rg_json_accept(json, '}')) {
        do {
            const char *name;
            if (!rg_json_string(json, &name)) return fail_header(p, NULL);
            if (!rg_json_expect(json, ':', "':' is expected")) return fail_header(p, name);
            RG_TRY(strcmp(name, "__metadata__") == 0 ? read_metadata(p) : read_entry(p, name));
        } while (rg_json_accept(json, ','));
        if (!rg_json_expect(json, '}', "the header's object is not closed"))
            return fail_header(p, NULL);
    }
    if (!rg_json_at_end(json))
        return rg_json_fail(json, "text after the header's object"), fail_header(p, NULL);
    return RG_OK;
}

/* ---- the whole: names once, every byte in one tensor ---- */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A string that `list` (which is sorted) has twice, or NULL. */
static const char *find_twice(const char **list, size_t count) {
    if (count > 1) qsort(list, count, sizeof *list, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(list[i - 1], list[i]) == 0) return list[i];
    return NULL;
}

static rg_status check_names(parse *p) {
    const rg_safetensors *file = p->file;
    const char **name = RG_NEW_ARRAY(p->arena, const char *, file->count + 1);
    const char **key = RG_NEW_ARRAY(p->arena, const char *, file->meta_count + 1);
    if (!name || !key) return rg_nomem(p->ctx);
    for (uint32_t i = 0; i < file->count; i++) name[i] = file->entry[i].name;
    for (uint32_t i = 0; i < file->meta_count; i++) key[i] = file->meta[i][0];
    char text[RG_JSON_SHOWN];
    const char *twice = find_twice(name, file->count);
    if (twice)
        return rg_fail(p->ctx, RG_E_FORMAT, "'%s': tensor '%s' comes twice", p->path,
                       rg_json_shown(twice, text));
    twice = find_twice(key, file->meta_count);
    if (twice)
        return rg_fail(p->ctx, RG_E_FORMAT, "'%s': __metadata__ has '%s' twice", p->path,
                       rg_json_shown(twice, text));
    return RG_OK;
}

/* By place; of those that begin together the empty ones first. */
static int compare_places(const void *a, const void *b) {
    const rg_tensor_entry *x = *(const rg_tensor_entry *const *)a,
                          *y = *(const rg_tensor_entry *const *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static rg_status check_places(parse *p) {
    uint32_t count = p->file->count;
    const rg_tensor_entry **by_place = RG_NEW_ARRAY(p->arena, const rg_tensor_entry *, count + 1);
    if (!by_place) return rg_nomem(p->ctx);
    for (uint32_t i = 0; i < count; i++) by_place[i] = &p->file->entry[i];
    if (count > 1) qsort(by_place, count, sizeof *by_place, compare_places);
    const uint8_t *done = p->data, *end = p->data + p->data_length;
    char text[RG_JSON_SHOWN];
    for (uint32_t i = 0; i < count; i++) {
        const rg_tensor_entry *entry = by_place[i];
        if (entry->data < done)
            return rg_fail(p->ctx, RG_E_FORMAT, "'%s': tensor '%s' overlaps another", p->path,
                           rg_json_shown(entry->name, text));
        if (entry->data > done)
            return rg_fail(p->ctx, RG_E_FORMAT, "'%s': %td bytes before tensor '%s' belong to none",
                           p->path, entry->data - done, rg_json_shown(entry->name, text));
        done += entry->bytes;
    }
    if (done < end)
        return rg_fail(p->ctx, RG_E_FORMAT, "'%s': the last %td bytes belong to no tensor", p->path,
                       end - done);
    return RG_OK;
}

rg_status rg_safetensors_parse(rg_ctx *ctx, rg_arena *arena, const char *path, uint8_t *bytes,
                               size_t length, rg_safetensors *file) {
    uint64_t header;
    *file = (rg_safetensors){0};
    if (length < PREFIX)
        return rg_fail(ctx, RG_E_FORMAT, "'%s' has %zu bytes: too short for a safetensors file",
                       path, length);
    memcpy(&header, bytes, PREFIX);
    if (header > HEADER_MAX || header > length - PREFIX)
        return rg_fail(ctx, RG_E_FORMAT,
                       "'%s': a header of %llu bytes, but %zu bytes follow and the limit is %d",
                       path, (unsigned long long)header, length - PREFIX, HEADER_MAX);
    parse p = {
        .ctx = ctx, .arena = arena, .path = path, .header_length = (size_t)header, .file = file};
    p.data = bytes + PREFIX + header;
    p.data_length = length - PREFIX - header;
    rg_json_init(&p.json, (char *)bytes + PREFIX, (size_t)header);
    if (p.json.problem) return fail_header(&p, NULL);
    RG_TRY(read_header(&p));
    RG_TRY(check_names(&p));
    return check_places(&p);
}

rg_status rg_safetensors_read(rg_ctx *ctx, const char *path, rg_safetensors *file) {
    char *bytes;
    size_t length;
    RG_TRY(rg_file_read(ctx, ctx->arena, path, file_limit, &bytes, &length));
    return rg_safetensors_parse(ctx, ctx->arena, path, (uint8_t *)bytes, length, file);
}

const rg_tensor_entry *rg_safetensors_find(const rg_safetensors *file, const char *name) {
    for (uint32_t i = 0; i < file->count; i++)
        if (strcmp(file->entry[i].name, name) == 0) return &file->entry[i];
    return NULL;
}

/* ---- writing ---- */

static void put_string(rg_text *out, const char *text) {
    rg_text_add(out, "\"");
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at < 0x20) {
            rg_text_add(out, "\\u%04x", *at);
        } else if (*at == '"' || *at == '\\') {
            rg_text_add(out, "\\%c", *at);
        } else {
            rg_text_add_bytes(out, at, 1);
        }
    }
    rg_text_add(out, "\"");
}

static void put_entry(rg_text *out, const rg_tensor_entry *entry, uint64_t begin) {
    put_string(out, entry->name);
    rg_text_add(out, ":{\"dtype\":\"%s\",\"shape\":[", entry->dtype);
    for (uint32_t i = 0; i < entry->rank; i++)
        rg_text_add(out, "%s%llu", i ? "," : "", (unsigned long long)entry->shape[i]);
    rg_text_add(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                (unsigned long long)(begin + entry->bytes));
}

static void put_header(rg_text *out, const rg_safetensors *file) {
    uint64_t begin = 0;
    const char *comma = "";
    rg_text_add(out, "{");
    if (file->meta_count > 0) {
        rg_text_add(out, "\"__metadata__\":{");
        for (uint32_t i = 0; i < file->meta_count; i++) {
            if (i) rg_text_add(out, ",");
            put_string(out, file->meta[i][0]);
            rg_text_add(out, ":");
            put_string(out, file->meta[i][1]);
        }
        rg_text_add(out, "}");
        comma = ",";
    }
    for (uint32_t i = 0; i < file->count; i++, comma = ",") {
        rg_text_add(out, "%s", comma);
        put_entry(out, &file->entry[i], begin);
        begin += file->entry[i].bytes;
    }
    rg_text_add(out, "}");
    while (out->length % PREFIX != 0) rg_text_add(out, " ");
}

rg_status rg_safetensors_write(rg_ctx *ctx, const char *path, const rg_safetensors *file) {
    rg_text header = {0}, whole = {0};
    put_header(&header, file);
    uint64_t length = header.length;
    rg_text_add_bytes(&whole, &length, PREFIX);
    if (!header.failed) rg_text_add_bytes(&whole, header.data, header.length);
    for (uint32_t i = 0; i < file->count; i++)
        rg_text_add_bytes(&whole, file->entry[i].data, (size_t)file->entry[i].bytes);
    rg_status status = header.failed || whole.failed
                           ? rg_nomem(ctx)
                           : rg_file_write(ctx, path, whole.data, whole.length);
    rg_text_free(&header);
    rg_text_free(&whole);
    return status;
}
