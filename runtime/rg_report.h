/* Lines and a progress line for people: finished lines to one stream, progress to a terminal and
 * never into a pipe. */
#ifndef RG_REPORT_H
#define RG_REPORT_H

#include "rg_train.h"

#include <stdio.h>

typedef struct rg_report {
    FILE *out, *err;
    bool live;   /* `err` is a terminal: a progress line is kept there */
    bool shown;  /* a progress line stands there now */
    double last; /* when it was written, in seconds */
} rg_report;

/* `quiet`: no progress line. */
void rg_report_init(rg_report *report, FILE *out, FILE *err, bool quiet);
/* A finished line; the progress line is erased first. These fit rg_train_options (user: the
 * rg_report). */
void rg_report_line(void *user, const char *text);
/* At most ten times a second. */
void rg_report_progress(void *user, const rg_progress *progress);
void rg_report_evaluating(void *user, uint64_t step, uint64_t steps);
/* The same for rg_cpu_options: kernels compiled. */
void rg_report_build(void *user, int done, int total);
/* Erases the progress line, if one is shown. */
void rg_report_clear(rg_report *report);

#endif
