/* Lines and a progress line for people. */
#include "rg_report.h"

#include <time.h>
#include <unistd.h>

#define PROGRESS_SECONDS 0.1

void rg_report_init(rg_report *report, FILE *out, FILE *err, bool quiet) {
    *report = (rg_report){.out = out, .err = err, .live = !quiet && isatty(fileno(err))};
}

void rg_report_clear(rg_report *report) {
    if (!report->shown) return;
    fputs("\r\033[K", report->err);
    fflush(report->err);
    report->shown = false;
}

void rg_report_line(void *user, const char *text) {
    rg_report *report = user;
    rg_report_clear(report);
    fprintf(report->out, "%s\n", text);
    fflush(report->out); /* a reader of a pipe sees each epoch as it ends */
}

/* Is it time for the next progress line? */
static bool is_due(rg_report *report) {
    struct timespec time;
    if (!report->live) return false;
    clock_gettime(CLOCK_MONOTONIC, &time);
    double now = (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
    if (report->shown && now - report->last < PROGRESS_SECONDS) return false;
    report->last = now;
    report->shown = true;
    return true;
}

void rg_report_progress(void *user, const rg_progress *progress) {
    rg_report *report = user;
    if (!is_due(report)) return;
    fprintf(report->err, "\r\033[Kepoch %u  step %llu/%llu  loss %.4f  %.0f img/s", progress->epoch,
            (unsigned long long)progress->step + 1, (unsigned long long)progress->steps_per_epoch,
            progress->loss, progress->images_per_second);
    fflush(report->err);
}

void rg_report_evaluating(void *user, uint64_t step, uint64_t steps) {
    rg_report *report = user;
    if (!is_due(report)) return;
    fprintf(report->err, "\r\033[Kevaluation  step %llu/%llu", (unsigned long long)step + 1,
            (unsigned long long)steps);
    fflush(report->err);
}

void rg_report_build(void *user, int done, int total) {
    rg_report *report = user;
    if (!is_due(report)) return;
    fprintf(report->err, "\r\033[Kcompiling kernels %d/%d", done, total);
    fflush(report->err);
}
