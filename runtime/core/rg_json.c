#include "rg_json.h"

#include <string.h>

bool rg_json_fail(rg_json *json, const char *problem) {
    if (!json->problem) json->problem = problem;
    return false;
}

/* The length of the valid UTF-8 sequence at `s`, 0 if there is none. Source: Unicode 15, table 3-7.
 */
static size_t utf8_length(const unsigned char *s, size_t left) {
    if (s[0] < 0x80) return 1;
    size_t length = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || beyond ? 0 : length;
}

void rg_json_init(rg_json *json, char *text, size_t length) {
    *json = (rg_json){.at = text, .end = text + length, .start = text};
    for (size_t i = 0, step; i < length; i += step) {
        step = utf8_length((const unsigned char *)text + i, length - i);
        if (step) continue;
        json->at = text + i;
        rg_json_fail(json, "it is not UTF-8");
        return;
    }
}

static void skip_space(rg_json *json) {
    while (json->at < json->end && memchr(" \t\n\r", *json->at, 4)) json->at++;
}

bool rg_json_accept(rg_json *json, char mark) {
    if (json->problem) return false;
    skip_space(json);
    if (json->at == json->end || *json->at != mark) return false;
    json->at++;
    return true;
}

bool rg_json_expect(rg_json *json, char mark, const char *problem) {
    return rg_json_accept(json, mark) || rg_json_fail(json, problem);
}

bool rg_json_at_end(rg_json *json) {
    if (json->problem) return false;
    skip_space(json);
    return json->at == json->end;
}

bool rg_json_number(rg_json *json, uint64_t *value) {
    if (json->problem) return false;
    skip_space(json);
    const char *first = json->at;
    *value = 0;
    for (; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++) {
        uint64_t digit = (uint64_t)(*json->at - '0');
        if (__builtin_mul_overflow(*value, 10u, value) ||
            __builtin_add_overflow(*value, digit, value))
            return rg_json_fail(json, "a number is too large");
    }
    if (json->at == first) return rg_json_fail(json, "a whole number is expected");
    if (*first == '0' && json->at - first > 1) return rg_json_fail(json, "a number begins with 0");
    if (json->at < json->end && memchr(".eE", *json->at, 3))
        return rg_json_fail(json, "a whole number is expected");
    return true;
}

/* ---- strings ---- */

static bool read_hex4(rg_json *json, uint32_t *code) {
    static const char digits[] = "0123456789abcdef";
    if (json->end - json->at < 4) return rg_json_fail(json, "an escape is cut off");
    *code = 0;
    for (int i = 0; i < 4; i++, json->at++) {
        char letter =
            *json->at >= 'A' && *json->at <= 'F' ? (char)(*json->at - 'A' + 'a') : *json->at;
        const char *digit = letter ? strchr(digits, letter) : NULL;
        if (!digit) return rg_json_fail(json, "\\u is not followed by four hex digits");
        *code = *code * 16 + (uint32_t)(digit - digits);
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code) {
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 0x3F));
    to[0] = (char)(lead[length] | code);
    return to + length;
}

/* After "\u": a character, or a pair of surrogates that stand for one. */
static bool read_unicode(rg_json *json, char **to) {
    uint32_t code, low;
    if (!read_hex4(json, &code)) return false;
    if (code == 0) return rg_json_fail(json, "a string holds a zero character");
    if (code >= 0xD800 && code < 0xE000) {
        bool pair =
            code < 0xDC00 && json->end - json->at >= 2 && json->at[0] == '\\' && json->at[1] == 'u';
        if (!pair) return rg_json_fail(json, "half of a surrogate pair is missing");
        json->at += 2;
        if (!read_hex4(json, &low)) return false;
        if (low < 0xDC00 || low >= 0xE000)
            return rg_json_fail(json, "half of a surrogate pair is missing");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *to = put_utf8(*to, code);
    return true;
}

static bool read_escape(rg_json *json, char **to) {
    static const char from[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) return rg_json_fail(json, "a string is not closed");
    char letter = *json->at++;
    if (letter == 'u') return read_unicode(json, to);
    const char *found = letter ? strchr(from, letter) : NULL;
    if (!found) return rg_json_fail(json, "an unknown escape");
    *(*to)++ = meaning[found - from];
    return true;
}

/* No escape is shorter than what it stands for, so the unescaped text never overtakes the reader.
 */
bool rg_json_string(rg_json *json, const char **value) {
    if (!rg_json_expect(json, '"', "a string is expected")) return false;
    char *to = json->at;
    *value = to;
    while (json->at < json->end && *json->at != '"') {
        char letter = *json->at++;
        if ((unsigned char)letter < 0x20)
            return rg_json_fail(json, "a control character stands in a string");
        if (letter == '\\') {
            if (!read_escape(json, &to)) return false;
        } else {
            *to++ = letter;
        }
    }
    if (json->at == json->end) return rg_json_fail(json, "a string is not closed");
    json->at++;
    *to = 0;
    return true;
}

const char *rg_json_shown(const char *text, char buffer[RG_JSON_SHOWN]) {
    size_t length = strlen(text);
    size_t keep = length < RG_JSON_SHOWN ? length : RG_JSON_SHOWN - 4;
    for (size_t i = 0; i < keep; i++)
        buffer[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    memcpy(buffer + keep, keep < length ? "..." : "", keep < length ? 4 : 1);
    return buffer;
}
