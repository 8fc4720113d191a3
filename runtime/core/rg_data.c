/* A batch, from the bytes of a data set to the network's input buffer. The resize works on 16
 * images at once, interleaved as in the activation layout, so that its inner loops run over lanes
 * with one weight and the output is written in order. */
#include "rg_resize.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Output rows of one task: enough of them that few input rows are stretched twice, few enough for
 * all threads to have work. */
enum { STRIP = 16, LANES = 16 };

typedef struct fill {
    const rg_dataset *set;
    const rg_resize *resize;
    const uint32_t *order;
    int32_t live;
    float *image;
    uint32_t cp;
    size_t in_bytes, out_bytes; /* of one interleaved line: [x][16][channels] */
    uint32_t rows;              /* most input rows that a strip reads */
    size_t scratch_bytes;       /* a thread */
    float value[4][256];        /* (byte/255 - mean)/std for each channel */
} fill;

/* The 16 images' input row `y` as [x][16][channels]; images that are not there keep what the line
 * held. */
static void interleave(const fill *f, int32_t block, uint32_t y, uint8_t *line) {
    const rg_dataset *set = f->set;
    int32_t first = block * RG_BLOCK,
            count = f->live - first < RG_BLOCK ? f->live - first : RG_BLOCK;
    for (int32_t n = 0; n < count; n++)
        for (uint32_t c = 0; c < set->channels; c++) {
            size_t plane = (size_t)f->order[first + n] * set->channels + c;
            const uint8_t *from = set->pixels + (plane * set->height + y) * set->width;
            uint8_t *to = line + (size_t)n * set->channels + c;
            for (uint32_t x = 0; x < set->width; x++)
                to[(size_t)x * RG_BLOCK * set->channels] = from[x];
        }
}

/* out[j] = sum over t of weight[t] * in[t*step + j], rounded; `lanes` is a multiple of 16. */
static void mix(const uint8_t *in, size_t step, const int32_t *weight, uint32_t taps, size_t lanes,
                uint8_t *out) {
    for (size_t j = 0; j < lanes; j += LANES) {
        int32_t sum[LANES];
        for (int l = 0; l < LANES; l++) sum[l] = RG_RESIZE_HALF;
        for (uint32_t t = 0; t < taps; t++)
            for (int l = 0; l < LANES; l++) sum[l] += weight[t] * in[t * step + j + (size_t)l];
        for (int l = 0; l < LANES; l++) out[j + (size_t)l] = rg_resize_round(sum[l]);
    }
}

static void stretch_line(const fill *f, const uint8_t *line, uint8_t *out) {
    const rg_resize_axis *w = &f->resize->w;
    size_t pixel = f->out_bytes / w->out;
    for (uint32_t x = 0; x < w->out; x++)
        mix(line + w->first[x] * pixel, pixel, w->weight + (size_t)x * w->taps, w->count[x], pixel,
            out + x * pixel);
}

/* `count` images of one pixel. Inlined, so that the usual case of three channels is a loop without
 * branches. */
static inline void normalise_pixel(const fill *f, const uint8_t *line, int32_t count,
                                   uint32_t channels, uint32_t cp, float *to) {
    for (int32_t n = 0; n < count; n++, to += cp, line += channels) {
        for (uint32_t c = 0; c < channels; c++) to[c] = f->value[c][line[c]];
        for (uint32_t c = channels; c < cp; c++) to[c] = 0.0f;
    }
}

static void normalise_line(const fill *f, int32_t block, const uint8_t *line, float *to) {
    int32_t left = f->live - block * RG_BLOCK, count = left < RG_BLOCK ? left : RG_BLOCK;
    uint32_t channels = f->set->channels, cp = f->cp, width = f->resize->w.out;
    for (uint32_t x = 0; x < width; x++, line += RG_BLOCK * channels, to += RG_BLOCK * cp) {
        if (channels == 3 && cp == 3) {
            normalise_pixel(f, line, count, 3, 3, to);
        } else {
            normalise_pixel(f, line, count, channels, cp, to);
        }
        memset(to + (size_t)count * cp, 0, (size_t)(RG_BLOCK - count) * cp * sizeof *to);
    }
}

/* The input rows [*low, *high) that output rows [y0, y1) read. */
static void strip_rows(const rg_resize_axis *h, uint32_t y0, uint32_t y1, uint32_t *low,
                       uint32_t *high) {
    *low = h->in;
    *high = 0;
    for (uint32_t y = y0; y < y1; y++) {
        if (h->first[y] < *low) *low = h->first[y];
        if (h->first[y] + h->count[y] > *high) *high = h->first[y] + h->count[y];
    }
}

static void fill_strip(const fill *f, int32_t block, uint32_t y0, uint32_t y1, uint8_t *scratch) {
    const rg_resize_axis *h = &f->resize->h;
    uint8_t *input = scratch, *mixed = input + f->in_bytes, *rows = mixed + f->out_bytes;
    uint32_t low, high;
    strip_rows(h, y0, y1, &low, &high);
    for (uint32_t y = low; y < high; y++) {
        interleave(f, block, y, input);
        stretch_line(f, input, rows + (y - low) * f->out_bytes);
    }
    size_t out_floats = (size_t)f->resize->w.out * RG_BLOCK * f->cp;
    for (uint32_t y = y0; y < y1; y++) {
        const uint8_t *from = rows + (h->first[y] - low) * f->out_bytes;
        mix(from, f->out_bytes, h->weight + (size_t)y * h->taps, h->count[y], f->out_bytes, mixed);
        normalise_line(f, block, mixed, f->image + ((size_t)block * h->out + y) * out_floats);
    }
}

static rg_status fill_images(rg_ctx *ctx, const fill *f) {
    int threads = omp_get_max_threads();
    uint32_t height = f->resize->h.out, strips = (height + STRIP - 1) / STRIP;
    int32_t tasks = (f->live + RG_BLOCK - 1) / RG_BLOCK * (int32_t)strips;
    uint8_t *scratch = calloc((size_t)threads, f->scratch_bytes);
    if (!scratch) return rg_nomem(ctx);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int32_t task = 0; task < tasks; task++) {
        uint32_t y0 = (uint32_t)task % strips * STRIP,
                 y1 = y0 + STRIP < height ? y0 + STRIP : height;
        fill_strip(f, task / (int32_t)strips, y0, y1,
                   scratch + (size_t)omp_get_thread_num() * f->scratch_bytes);
    }
    free(scratch);
    return RG_OK;
}

static void fill_labels(const rg_dataset *set, const uint32_t *order, int32_t live, float *label) {
    int32_t whole = (live + RG_BLOCK - 1) / RG_BLOCK * RG_BLOCK;
    for (int32_t n = 0; n < whole; n++) label[n] = n < live ? (float)set->labels[order[n]] : 0.0f;
}

/* ---- checks: the plan, the set and the resize come from different places ---- */

static rg_status check_order(rg_ctx *ctx, const rg_plan *plan, const rg_dataset *set,
                             const uint32_t *order, int32_t live) {
    int64_t most = (int64_t)plan->max_blocks * RG_BLOCK;
    if (live < 0 || live > most)
        return rg_fail(ctx, RG_E_LIMIT, "a batch of %d images: this plan takes 0 to %lld", live,
                       (long long)most);
    for (int32_t n = 0; n < live; n++)
        if (order[n] >= set->count)
            return rg_fail(ctx, RG_E_LIMIT, "image %u of a data set of %u", order[n], set->count);
    return RG_OK;
}

static rg_status check_shapes(rg_ctx *ctx, const rg_plan *plan, const rg_dataset *set,
                              const rg_resize *resize) {
    if (plan->io.image >= plan->buffer_count || plan->io.label >= plan->buffer_count)
        return rg_fail(ctx, RG_E_SHAPE, "the plan has no image or no label buffer");
    const rg_plan_buffer *image = &plan->buffer[plan->io.image],
                         *label = &plan->buffer[plan->io.label];
    if (image->layout != RG_PL_ACT || image->dim[2] > 4 || image->dim[3] < image->dim[2] ||
        label->layout != RG_PL_ACT || label->dim[3] != 1)
        return rg_fail(ctx, RG_E_SHAPE, "the plan's image or label buffer has an unknown layout");
    const rg_resize_axis *h = &resize->h, *w = &resize->w;
    if (set->channels != image->dim[2] || set->height != h->in || set->width != w->in ||
        h->out != image->dim[0] || w->out != image->dim[1])
        return rg_fail(ctx, RG_E_SHAPE,
                       "the data set's images are %ux%ux%u, resized %ux%u to %ux%u, but the "
                       "network takes %ux%ux%u",
                       set->channels, set->height, set->width, h->in, w->in, h->out, w->out,
                       image->dim[2], image->dim[0], image->dim[1]);
    return RG_OK;
}

static void fill_init(fill *f, const rg_plan *plan) {
    const rg_resize_axis *h = &f->resize->h, *w = &f->resize->w;
    uint32_t channels = f->set->channels;
    f->cp = plan->buffer[plan->io.image].dim[3];
    f->in_bytes = (size_t)w->in * RG_BLOCK * channels;
    f->out_bytes = (size_t)w->out * RG_BLOCK * channels;
    for (uint32_t y = 0; y < h->out; y += STRIP) {
        uint32_t low, high;
        strip_rows(h, y, y + STRIP < h->out ? y + STRIP : h->out, &low, &high);
        if (high - low > f->rows) f->rows = high - low;
    }
    f->scratch_bytes = (f->in_bytes + (f->rows + 1) * f->out_bytes + 63) / 64 * 64;
    /* in single precision and in this order, as torchvision's ToTensor and Normalize do it: the
     * same bits */
    for (uint32_t c = 0; c < channels; c++)
        for (int byte = 0; byte < 256; byte++)
            f->value[c][byte] = ((float)byte / 255.0f - plan->data.mean[c]) / plan->data.std[c];
}

rg_status rg_data_fill(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set, const rg_resize *resize,
                       const uint32_t *order, int32_t live) {
    const rg_plan *plan = rg_exec_plan(exec);
    RG_TRY(check_shapes(ctx, plan, set, resize));
    RG_TRY(check_order(ctx, plan, set, order, live));
    if (live == 0) return RG_OK;
    RG_TRY(rg_exec_settle(ctx, exec)); /* the batch before may still be on its way to a device */
    fill f = {.set = set,
              .resize = resize,
              .order = order,
              .live = live,
              .image = rg_exec_buffer(exec, plan->io.image)};
    fill_init(&f, plan);
    RG_TRY(fill_images(ctx, &f));
    fill_labels(set, order, live, rg_exec_buffer(exec, plan->io.label));
    RG_TRY(rg_exec_send(ctx, exec, plan->io.image));
    return rg_exec_send(ctx, exec, plan->io.label);
}

/* ---- a set that the device keeps ---- */

static rg_status keep_arrays(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set,
                             const rg_resize *resize, int *kept) {
    const rg_resize_axis *h = &resize->h, *w = &resize->w;
    size_t words = (size_t)rg_resize_words(h->in, h->out) + rg_resize_words(w->in, w->out);
    uint32_t *labels = malloc((set->count + words) * sizeof *labels);
    if (!labels) return rg_nomem(ctx);
    for (uint32_t i = 0; i < set->count; i++) labels[i] = set->labels[i];
    rg_resize_table(resize, labels + set->count);
    const rg_exec_set from = {
        .pixels = set->pixels,
        .labels = labels,
        .weights = labels + set->count,
        .pixel_bytes = (uint64_t)set->count * set->channels * set->height * set->width,
        .label_bytes = set->count * sizeof *labels,
        .weight_bytes = words * sizeof *labels,
    };
    rg_status status = rg_exec_keep(ctx, exec, &from, kept);
    free(labels);
    return status;
}

rg_status rg_data_keep(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set, const rg_resize *resize,
                       int *kept, const char **why) {
    const rg_plan *plan = rg_exec_plan(exec);
    size_t bytes = (size_t)set->channels * set->height * set->width;
    *kept = -1;
    *why = NULL;
    if (plan->program[RG_PP_INPUT].op_count == 0) return RG_OK;
    RG_TRY(check_shapes(ctx, plan, set, resize));
    if (set->height != plan->data.set_height || set->width != plan->data.set_width || bytes % 4) {
        *why = "batches are made on the host: the data set's images are of another size than the "
               "kernel's";
        return RG_OK;
    }
    RG_TRY(keep_arrays(ctx, exec, set, resize, kept));
    if (*kept < 0)
        *why = "batches are made on the host: the data set does not fit into the device's memory";
    return RG_OK;
}
