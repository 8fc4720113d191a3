/* --dump=floor: what the kernels of a training step need at least, on paper. */
#include <math.h>
#include <string.h>

#include "driver_parts.h"

/* A device by its figures. bf16 and memory: measured by large matrix products and copies; f16 is
 * as fast, tf32 half as fast (one product takes twice the operand bits); FFMA from NVIDIA's data
 * sheet. */
typedef struct device_row {
    const char *name;
    double tflops16, tflops32, gbps;
} device_row;

static const device_row devices[] = {{"H100", 798, 67, 3000}, {"H200", 790, 67, 4300}};
enum { DEVICES = sizeof devices / sizeof *devices };

static rg_peak peak_of(const device_row *device, const rg_kdesc *desc) {
    rg_kformat format = desc->contr_count ? desc->contr[0].format : RG_KFORMAT_F32;
    double tflops = format == RG_KFORMAT_F32    ? device->tflops32
                    : format == RG_KFORMAT_TF32 ? device->tflops16 / 2
                                                : device->tflops16;
    return (rg_peak){.gflops = tflops * 1e3, .gbps = device->gbps};
}

rg_peak rg_floor_peak(const char *device, const rg_kdesc *desc, const char **told) {
    int at = 0;
    for (int d = 0; d < DEVICES; d++)
        if (strstr(device, devices[d].name)) at = d;
    *told = devices[at].name;
    return peak_of(&devices[at], desc);
}

typedef struct totals {
    double gflop, mbytes, model_us, floor_us[DEVICES];
    int launches;
} totals;

static bool is_of_step(const rg_launch *launch) {
    return launch->program == RG_PP_GRAD || launch->program == RG_PP_UPDATE;
}

static double floor_of(const rg_launch *launch, int device, int32_t batch) {
    rg_peak peak = peak_of(&devices[device], &launch->desc);
    return rg_peak_floor(&peak, &launch->desc, batch);
}

static void print_launch(rg_text *text, const rg_launch *launch, int32_t batch, totals *sum) {
    const rg_kdesc *desc = &launch->desc;
    double gflop = rg_kdesc_flop(desc, true) * batch / 1e9;
    double mbytes = rg_kdesc_bytes(desc, launch->blocks) / 1e6;
    rg_text_add(text, "%8.2f %8.2f", gflop, mbytes);
    for (int d = 0; d < DEVICES; d++) {
        double us = floor_of(launch, d, batch);
        sum->floor_us[d] += us;
        rg_text_add(text, " %8.2f", us);
    }
    rg_text_add(text, " %8.2f  %-24s %s\n", desc->variant.cost_us, launch->label,
                launch->name.symbol);
    sum->gflop += gflop;
    sum->mbytes += mbytes;
    sum->model_us += desc->variant.cost_us;
    sum->launches++;
}

/* The launches of a phase run side by side: it takes its longest one by the model, and not less
 * than all of them together need of the device. */
static double longest_path(const rg_job *job, int device, int *phases) {
    const rg_launch *launch = job->planned.launch;
    int32_t count = job->planned.launch_count, end;
    double path_us = 0;
    *phases = 0;
    for (int32_t first = 0; first < count; first = end) {
        double longest_us = 0, floor_us = 0;
        for (end = first; end < count && launch[end].program == launch[first].program &&
                          launch[end].phase == launch[first].phase;
             end++) {
            floor_us += floor_of(&launch[end], device, job->spec->batch);
            longest_us = fmax(longest_us, launch[end].desc.variant.cost_us);
        }
        if (!is_of_step(&launch[first])) continue;
        path_us += fmax(longest_us, floor_us);
        ++*phases;
    }
    return path_us;
}

static void print_path(rg_text *text, const rg_job *job) {
    int phases = 0;
    rg_text_add(text, "longest path by the model:");
    for (int d = 0; d < DEVICES; d++)
        rg_text_add(text, "%s %s %.2f us", d ? "," : "", devices[d].name,
                    longest_path(job, d, &phases));
    rg_text_add(text,
                " (%d phases, each as its longest launch, or as the floors of all its "
                "launches)\n",
                phases);
}

void rg_floor_dump(rg_text *text, const rg_job *job) {
    totals sum = {0};
    rg_text_add(text, "%8s %8s", "GFLOP", "MB");
    for (int d = 0; d < DEVICES; d++) rg_text_add(text, " %5s us", devices[d].name);
    rg_text_add(text, " %8s  %-24s %s\n", "model us", "layer", "kernel");
    for (int32_t i = 0; i < job->planned.launch_count; i++) {
        const rg_launch *launch = &job->planned.launch[i];
        if (is_of_step(launch)) print_launch(text, launch, job->spec->batch, &sum);
    }
    rg_text_add(text, "%8.2f %8.2f", sum.gflop, sum.mbytes);
    for (int d = 0; d < DEVICES; d++) rg_text_add(text, " %8.2f", sum.floor_us[d]);
    rg_text_add(text, " %8.2f  %d launches a step of %d images\n", sum.model_us, sum.launches,
                job->spec->batch);
    print_path(text, job);
}
