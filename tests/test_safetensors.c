/* safetensors: what is written is read to the bit, what is broken is refused with the reason,
 * nothing crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rg_core.h"

static rg_ctx ctx;
static char path[64];

static int setup(void **state) {
    (void)state;
    strcpy(path, "/tmp/rg_test_safetensors.XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) != 0) return -1;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return unlink(path);
}

static void assert_error(rg_status status, const char *part) {
    assert_non_null(ctx.last);
    assert_int_equal(status, RG_E_FORMAT);
    if (!strstr(ctx.last->text, part)) fail_msg("'%s' does not contain '%s'", ctx.last->text, part);
}

/* A file of this header and `data_bytes` bytes 0, 1, 2, ... In memory of exactly that size, so that
 * a sanitizer sees every byte too far. */
static rg_status parse_text(const char *header, size_t data_bytes, rg_safetensors *file,
                            uint8_t **bytes) {
    uint64_t length = strlen(header);
    size_t total = 8 + length + data_bytes;
    *bytes = malloc(total);
    assert_non_null(*bytes);
    memcpy(*bytes, &length, 8);
    memcpy(*bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) (*bytes)[8 + length + i] = (uint8_t)i;
    return rg_safetensors_parse(&ctx, ctx.arena, "x.safetensors", *bytes, total, file);
}

static const float values[6] = {0.0f, -0.0f, 1.5f, 1e-45f, 3.4028235e38f, -1.0f / 3};
static const int64_t counter = 0x123456789abcdef;

/* Every kind of thing that a file may hold. */
static rg_safetensors sample(rg_tensor_entry entry[4], const char *meta[2][2]) {
    entry[0] = (rg_tensor_entry){
        .name = "n", .dtype = "I64", .data = (const uint8_t *)&counter, .bytes = 8};
    entry[1] = (rg_tensor_entry){
        .name = "a \"quoted\" \\ \n\x01 n\xc3\xa4me", .dtype = "F32", .rank = 2, .shape = {2, 3}};
    entry[1].data = (const uint8_t *)values, entry[1].bytes = sizeof values;
    entry[2] = (rg_tensor_entry){.name = "", .dtype = "F64", .rank = 3, .shape = {4, 0, 7}};
    entry[3] = (rg_tensor_entry){.name = "u8",
                                 .dtype = "U8",
                                 .rank = 8,
                                 .shape = {1, 1, 1, 1, 1, 1, 1, 3},
                                 .data = (const uint8_t *)"xyz",
                                 .bytes = 3};
    meta[0][0] = "format", meta[0][1] = "pt";
    meta[1][0] = "", meta[1][1] = "\t\"";
    return (rg_safetensors){.count = 4, .entry = entry, .meta_count = 2, .meta = meta};
}

static void test_what_is_written_is_read_to_the_bit(void **state) {
    (void)state;
    rg_tensor_entry entry[4];
    const char *meta[2][2];
    rg_safetensors wrote = sample(entry, meta), file;
    assert_int_equal(rg_safetensors_write(&ctx, path, &wrote), RG_OK);
    assert_int_equal(rg_safetensors_read(&ctx, path, &file), RG_OK);
    assert_int_equal(file.count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(file.entry[i].name, entry[i].name);
        assert_string_equal(file.entry[i].dtype, entry[i].dtype);
        assert_int_equal(file.entry[i].rank, entry[i].rank);
        assert_memory_equal(file.entry[i].shape, entry[i].shape, sizeof entry[i].shape);
        assert_int_equal(file.entry[i].bytes, entry[i].bytes);
        if (entry[i].bytes) assert_memory_equal(file.entry[i].data, entry[i].data, entry[i].bytes);
        assert_ptr_equal(rg_safetensors_find(&file, entry[i].name), &file.entry[i]);
    }
    assert_int_equal(file.meta_count, 2);
    for (int i = 0; i < 4; i++) assert_string_equal(file.meta[i / 2][i % 2], meta[i / 2][i % 2]);
    assert_null(rg_safetensors_find(&file, "another"));
}

static void test_the_header_is_padded_to_eight_bytes(void **state) {
    (void)state;
    rg_tensor_entry entry[4];
    const char *meta[2][2];
    rg_safetensors file = sample(entry, meta);
    char *bytes;
    size_t length;
    for (uint32_t count = 0; count <= 4; count++) {
        file.count = count;
        assert_int_equal(rg_safetensors_write(&ctx, path, &file), RG_OK);
        assert_int_equal(rg_file_read(&ctx, ctx.arena, path, 4096, &bytes, &length), RG_OK);
        uint64_t header;
        memcpy(&header, bytes, 8);
        assert_int_equal(header % 8, 0);
        assert_int_equal(bytes[8], '{');
    }
}

static void test_legal_headers_are_read(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        uint32_t count, meta_count;
    } legal[] = {
        {"{}", 0, 0, 0},
        {"{}   ", 0, 0, 0},
        {" { \"a\" : { \"shape\" : [ 2 , 1 ] ,\r\n\t\"data_offsets\" : [ 0 , 8 ] , \"dtype\" : "
         "\"F32\" } } ",
         8, 1, 0},
        {"{\"__metadata__\":{}}", 0, 0, 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"__metadata__\":{\"k\":"
         "\"v\"}}",
         1, 1, 1},
        {"{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[1,5]},\"a\":{\"dtype\":"
         "\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         5, 2, 0},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, 1, 0},
        /* an empty tensor, whose other dimensions would overflow */
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[18446744073709551615,2,0],\"data_offsets\":[0,0]}}",
         0, 1, 0},
    };
    for (size_t i = 0; i < sizeof legal / sizeof *legal; i++) {
        rg_safetensors file;
        uint8_t *bytes;
        rg_status status = parse_text(legal[i].header, legal[i].data_bytes, &file, &bytes);
        if (status != RG_OK) fail_msg("%s: %s", legal[i].header, ctx.last->text);
        assert_int_equal(file.count, legal[i].count);
        assert_int_equal(file.meta_count, legal[i].meta_count);
        free(bytes);
    }
}

static void test_escapes_in_names_are_undone(void **state) {
    (void)state;
    rg_safetensors file;
    uint8_t *bytes;
    static const char header[] =
        "{\"\\u0041\\/"
        "\\n\\\\\\\"\\t\\u00e4\\u0905\\u20AC\\ud83d\\ude00\":{\"dtype\":\"U8\","
        "\"shape\":[0],\"data_offsets\":[0,0]}}";
    assert_int_equal(parse_text(header, 0, &file, &bytes), RG_OK);
    assert_string_equal(file.entry[0].name,
                        "A/\n\\\"\t\xc3\xa4\xe0\xa4\x85\xe2\x82\xac\xf0\x9f\x98\x80");
    free(bytes);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *reason;
} broken[] = {
    {"", 0, "an object is expected"},
    {"[]", 0, "an object is expected"},
    {"{", 0, "a string is expected"},
    {"{} x", 0, "text after the header's object"},
    {"{" T("a", "U8", "1", "0,1") ",}", 1, "a string is expected"},
    {"{" T("a", "U8", "1", "0,1"), 1, "the header's object is not closed"},
    {"{" T("a", "U8", "1", "0,1") "," T("a", "U8", "1", "1,2") "}", 2, "tensor 'a' comes twice"},
    {"{" T("a", "U8", "1", "0,1") "," T("\\u0061", "U8", "1", "1,2") "}", 2,
     "tensor 'a' comes twice"},
    {"{" T("a", "U8", "2", "0,2") "," T("b", "U8", "2", "1,3") "}", 3,
     "tensor 'b' overlaps another"},
    {"{" T("a", "U8", "2", "0,2") "," T("b", "U8", "0", "1,1") "}", 2,
     "tensor 'b' overlaps another"},
    {"{" T("a", "U8", "1", "0,1") "," T("b", "U8", "1", "2,3") "}", 3,
     "1 bytes before tensor 'b' belong to none"},
    {"{" T("a", "U8", "1", "0,1") "}", 3, "the last 2 bytes belong to no tensor"},
    {"{" T("a", "U8", "2", "0,2") "}", 1, "tensor 'a': bytes 0 to 2, but the file has 1"},
    {"{" T("a", "U8", "1", "1,0") "}", 1, "tensor 'a': bytes 1 to 0"},
    {"{" T("a", "F32", "2,3", "0,20") "}", 20, "tensor 'a': 20 bytes do not make its shape of F32"},
    {"{" T("a", "F64", "4294967296,4294967296", "0,0") "}", 0, "tensor 'a': 0 bytes do not make"},
    {"{" T("a", "F4", "3", "0,1") "}", 1, "tensor 'a': 1 bytes do not make"},
    {"{" T("a", "F31", "1", "0,4") "}", 4, "tensor 'a': header, character 19: unknown dtype"},
    {"{" T("a", "F32", "-1", "0,4") "}", 4, "a whole number is expected"},
    {"{" T("a", "F32", "1.0", "0,4") "}", 4, "a whole number is expected"},
    {"{" T("a", "F32", "1e0", "0,4") "}", 4, "a whole number is expected"},
    {"{" T("a", "F32", "01", "0,4") "}", 4, "a number begins with 0"},
    {"{" T("a", "F32", "18446744073709551616", "0,4") "}", 4, "a number is too large"},
    {"{" T("a", "F32", "99999999999999999999", "0,4") "}", 4, "a number is too large"},
    {"{" T("a", "F32", "1,1,1,1,1,1,1,1,1", "0,4") "}", 4, "more than 8 dimensions"},
    {"{" T("a", "F32", "1", "0,4,5") "}", 4, "a list of two numbers"},
    {"{" T("a", "F32", "[1]", "0,4") "}", 4, "a whole number is expected"},
    {"{\"a\":7}", 0, "tensor 'a': header, character 5: a tensor is an object"},
    {"{\"a\":{}}", 0, "a string is expected"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, "dtype, shape or data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "a key comes twice"},
    {"{\"a\":{\"type\":\"U8\"}}", 0, "a key other than"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "a string is expected"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "a string is expected"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is an object of strings"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "__metadata__ has 'a' twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ comes twice"},
    {"{\"a\\u0000b\":", 0, "a zero character"},
    {"{\"\\ud800\":", 0, "half of a surrogate pair is missing"},
    {"{\"\\udc00\\ud800\":", 0, "half of a surrogate pair is missing"},
    {"{\"\\ud800\\u0041\":", 0, "half of a surrogate pair is missing"},
    {"{\"\\u00g0\":", 0, "four hex digits"},
    {"{\"\\u00", 0, "an escape is cut off"},
    {"{\"\\x\":", 0, "an unknown escape"},
    {"{\"a\n\":", 0, "a control character"},
    {"{\"a\\", 0, "a string is not closed"},
    {"{\"\xc0\x80\":", 0, "it is not UTF-8"},
    {"{\"\xe0\x80\x80\":", 0, "it is not UTF-8"},
    {"{\"\xf0\x80\x80\x80\":", 0, "it is not UTF-8"},
    {"{\"\xed\xa0\x80\":", 0, "it is not UTF-8"},
    {"{\"\xf4\x90\x80\x80\":", 0, "it is not UTF-8"},
    {"{\"\xe2\x82", 0, "it is not UTF-8"},
};

static void test_broken_headers_are_refused_with_the_reason(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        rg_safetensors file;
        uint8_t *bytes;
        rg_status status = parse_text(broken[i].header, broken[i].data_bytes, &file, &bytes);
        if (status == RG_OK) fail_msg("accepted: %s", broken[i].header);
        assert_error(status, broken[i].reason);
        assert_int_equal(ctx.count, (int)i + 1); /* one line each */
        free(bytes);
    }
}

static void test_lying_lengths_are_refused(void **state) {
    (void)state;
    static const uint64_t lie[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    rg_safetensors file;
    for (int i = 0; i < 5; i++) {
        uint8_t bytes[10] = {[8] = '{', [9] = '}'};
        memcpy(bytes, &lie[i], 8);
        assert_error(rg_safetensors_parse(&ctx, ctx.arena, "x", bytes, sizeof bytes, &file),
                     "but 2 bytes follow");
    }
    uint8_t none[8] = {0};
    assert_error(rg_safetensors_parse(&ctx, ctx.arena, "x", none, 7, &file), "too short");
    assert_error(rg_safetensors_parse(&ctx, ctx.arena, "x", none, 8, &file),
                 "an object is expected");
}

static void test_deep_nesting_is_refused_without_recursion(void **state) {
    (void)state;
    enum { DEEP = 1000000 };
    char *text = malloc(DEEP + 1);
    assert_non_null(text);
    static const char *const mark[] = {"{\"a\":", "["};
    for (int kind = 0; kind < 2; kind++) {
        rg_safetensors file;
        uint8_t *bytes;
        size_t step = strlen(mark[kind]), at = 0;
        for (; at + step <= DEEP; at += step) memcpy(text + at, mark[kind], step);
        text[at] = 0;
        assert_error(parse_text(text, 0, &file, &bytes),
                     kind ? "an object is expected" : "a key other than");
        free(bytes);
    }
    free(text);
}

static void test_names_cannot_write_to_the_terminal(void **state) {
    (void)state;
    rg_safetensors file;
    uint8_t *bytes;
    assert_error(parse_text("{\"\\u001b[2J\\n\":7}", 0, &file, &bytes), "tensor '?[2J?'");
    free(bytes);
}

typedef struct dice {
    uint32_t round;
    uint64_t draw;
} dice;

static uint32_t roll(dice *d, size_t below) {
    return rg_random_u32(1, RG_STREAM_TEST, d->round, d->draw++) % (uint32_t)below;
}

/* One to three bytes changed, often to what the grammar is made of; one file in eight is cut off.
 */
static uint8_t *mutate(dice *d, const char *whole, size_t length, size_t *size) {
    static const char likely[] = "{}[]\",:\\u0123456789 \xff";
    *size = roll(d, 8) ? length : roll(d, length + 1);
    uint8_t *bytes = malloc(*size ? *size : 1);
    assert_non_null(bytes);
    memcpy(bytes, whole, *size);
    for (uint32_t change = 1 + roll(d, 3); change > 0 && *size > 0; change--) {
        uint32_t at = roll(d, *size), byte = roll(d, 256);
        bytes[at] = roll(d, 2) ? (uint8_t)likely[byte % sizeof likely] : (uint8_t)byte;
    }
    return bytes;
}

static void assert_sound(const rg_safetensors *file, const uint8_t *bytes, size_t size) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        const rg_tensor_entry *entry = &file->entry[i];
        assert_true(entry->data >= bytes && entry->data + entry->bytes <= bytes + size);
        for (uint64_t j = 0; j < entry->bytes; j++) sum += entry->data[j];
        sum += strlen(entry->name) + strlen(entry->dtype);
    }
    for (uint32_t i = 0; i < file->meta_count; i++)
        sum += strlen(file->meta[i][0]) + strlen(file->meta[i][1]);
    assert_true(sum < 256 * size);
}

static void test_mutated_files_are_refused_or_sound(void **state) {
    (void)state;
    enum { ROUNDS = 20000 };
    rg_tensor_entry entry[4];
    const char *meta[2][2];
    rg_safetensors wrote = sample(entry, meta);
    char *whole;
    size_t length, size;
    int refused = 0;
    assert_int_equal(rg_safetensors_write(&ctx, path, &wrote), RG_OK);
    assert_int_equal(rg_file_read(&ctx, ctx.arena, path, 1 << 20, &whole, &length), RG_OK);
    for (dice d = {0}; d.round < ROUNDS; d.round++, d.draw = 0) {
        rg_ctx one;
        rg_safetensors file;
        uint8_t *bytes = mutate(&d, whole, length, &size);
        assert_int_equal(rg_ctx_init(&one), RG_OK);
        if (rg_safetensors_parse(&one, one.arena, "x", bytes, size, &file) == RG_OK) {
            assert_sound(&file, bytes, size);
        } else {
            assert_int_equal(one.count, 1);
            refused++;
        }
        rg_ctx_free(&one);
        free(bytes);
    }
    assert_in_range(refused, ROUNDS / 2, ROUNDS - 100);
}

static void test_every_failed_allocation_is_reported(void **state) {
    (void)state;
    rg_tensor_entry entry[4];
    const char *meta[2][2];
    rg_safetensors wrote = sample(entry, meta), file;
    assert_int_equal(rg_safetensors_write(&ctx, path, &wrote), RG_OK);
    rg_status status = RG_E_NOMEM;
    long n = 0;
    while (status != RG_OK) {
        rg_ctx one;
        assert_int_equal(rg_ctx_init(&one), RG_OK);
        rg_arena_fail_after(++n);
        status = rg_safetensors_read(&one, path, &file);
        rg_arena_fail_after(0);
        assert_true(status == RG_OK || (status == RG_E_NOMEM && one.count == 1));
        rg_ctx_free(&one);
    }
    assert_in_range(n, 6, 10);
}

static void test_a_missing_file_is_named(void **state) {
    (void)state;
    rg_safetensors file;
    assert_int_equal(rg_safetensors_read(&ctx, "/nowhere/x.safetensors", &file), RG_E_IO);
    assert_non_null(strstr(ctx.last->text, "'/nowhere/x.safetensors'"));
}

#define RG_CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        RG_CASE(test_what_is_written_is_read_to_the_bit),
        RG_CASE(test_the_header_is_padded_to_eight_bytes),
        RG_CASE(test_legal_headers_are_read),
        RG_CASE(test_escapes_in_names_are_undone),
        RG_CASE(test_broken_headers_are_refused_with_the_reason),
        RG_CASE(test_lying_lengths_are_refused),
        RG_CASE(test_deep_nesting_is_refused_without_recursion),
        RG_CASE(test_names_cannot_write_to_the_terminal),
        RG_CASE(test_mutated_files_are_refused_or_sound),
        RG_CASE(test_every_failed_allocation_is_reported),
        RG_CASE(test_a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
