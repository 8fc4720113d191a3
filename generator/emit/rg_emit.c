/* From a description to a source file: its key, its symbol, its text. */
#include <stdio.h>
#include <string.h>

#include "rg_emit_impl.h"

static rg_status make_key(rg_ctx *ctx, const rg_kdesc *desc, char key[33]) {
    rg_text text = {0};
    rg_kdesc_print(&text, desc, true);
    rg_tpl_sources(&text, desc->variant.file);
    if (!text.failed) rg_hash_hex(rg_hash_bytes(text.data, text.length), key);
    rg_status status = text.failed ? rg_nomem(ctx) : RG_OK;
    rg_text_free(&text);
    return status;
}

/* ---- symbol ---- */

static void shape_of_conv(const rg_kdesc *desc, char *to, size_t size) {
    const rg_kcontr *contr = &desc->contr[0];
    const rg_ksite *in = &desc->site[contr->site], *out = &desc->site[desc->site_count - 1];
    snprintf(to, size, "h%dw%dc%d_k%dr%ds%d", in->h, in->w, in->c, out->c, contr->r, contr->s);
}

static void shape_of_window(const rg_kdesc *desc, char *to, size_t size) {
    const rg_ksite *in = &desc->site[0];
    snprintf(to, size, "h%dw%dc%d_r%ds%d", in->h, in->w, in->c, desc->contr[0].r, desc->contr[0].s);
}

static void shape_of_pack(const rg_kdesc *desc, char *to, size_t size) {
    const rg_karg *from = &desc->arg[0];
    snprintf(to, size, "k%dr%ds%dc%d", from->k, from->r, from->s, from->c);
}

static void shape_of_input(const rg_kdesc *desc, char *to, size_t size) {
    const rg_karg *image = &desc->arg[RG_KINPUT_IMAGE];
    snprintf(to, size, "h%dw%dc%d_h%dw%d", desc->input.h, desc->input.w, image->c, image->h,
             image->w);
}

static void shape_of_site(const rg_kdesc *desc, char *to, size_t size) {
    const rg_ksite *site = &desc->site[0];
    if (desc->kind == RG_K_VEC)
        snprintf(to, size, "c%d", site->c);
    else
        snprintf(to, size, "h%dw%dc%d", site->h, site->w, site->c);
}

static void shape_text(const rg_kdesc *desc, char *to, size_t size) {
    switch (desc->kind) {
    case RG_K_CONV:
    case RG_K_WGRAD:
        shape_of_conv(desc, to, size);
        break;
    case RG_K_WINDOW:
        shape_of_window(desc, to, size);
        break;
    case RG_K_PACK:
        shape_of_pack(desc, to, size);
        break;
    case RG_K_INPUT:
        shape_of_input(desc, to, size);
        break;
    case RG_K_MAP:
    case RG_K_VEC:
        shape_of_site(desc, to, size);
        break;
    }
}

/* Letters, digits and _ alone, whatever the description is called. */
static void make_identifier(char *text) {
    for (; *text; text++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *text))
            *text = '_';
}

/* What a contraction's products are made of; of other kernels, the 16-bit type among what they read
 * and write. */
static const char *format_text(const rg_kdesc *desc) {
    rg_kformat format = desc->contr_count > 0 ? desc->contr[0].format : RG_KFORMAT_F32;
    for (int32_t i = 0; i < desc->arg_count && format == RG_KFORMAT_F32; i++) {
        if (desc->arg[i].type == RG_KTYPE_BF16) format = RG_KFORMAT_BF16;
        if (desc->arg[i].type == RG_KTYPE_F16) format = RG_KFORMAT_F16;
    }
    return rg_kformat_name(format);
}

/* A convolution's variant stands after the name of its operation: conv2d_fprop_wino4_bnrelu. */
static void make_symbol(const rg_kdesc *desc, rg_emitted *out) {
    static const char *const stems[] = {"conv2d_fprop", "conv2d_dgrad", "conv2d_wgrad"};
    char shape[64] = "", stem[16] = "";
    const char *rest = desc->name;
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (strncmp(desc->name, stems[i], strlen(stems[i])) == 0) {
            snprintf(stem, sizeof stem, "%s_", stems[i]);
            rest = desc->name + strlen(stems[i]);
        }
    shape_text(desc, shape, sizeof shape);
    snprintf(out->symbol, sizeof out->symbol, "rg_%s%.24s%.48s__%s_%.48s_%.8s", stem,
             stem[0] ? desc->variant.name : "", rest, format_text(desc), shape, out->key);
    make_identifier(out->symbol);
}

/* ---- all of it ---- */

rg_status rg_emit_name(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, rg_emitted *out) {
    (void)tpl;
    *out = (rg_emitted){0};
    if (!desc->variant.name)
        return rg_fail(ctx, RG_E_INTERNAL, "kernel '%s' has no variant", desc->name);
    RG_TRY(make_key(ctx, desc, out->key));
    make_symbol(desc, out);
    return RG_OK;
}

rg_status rg_emit_kernel(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, rg_emitted *out) {
    RG_TRY(rg_emit_name(ctx, tpl, desc, out));
    rg_text text = {0};
    rg_emit_header(&text, desc, out->symbol);
    rg_status status = rg_tpl_render(ctx, tpl, desc, out->symbol, &text);
    if (status == RG_OK) out->source = text.failed ? NULL : rg_arena_strdup(ctx->arena, text.data);
    if (status == RG_OK && !out->source) status = rg_nomem(ctx);
    rg_text_free(&text);
    return status;
}
