/* What the files of `verify` and `bench` share. */
#ifndef RG_DRIVER_PARTS_H
#define RG_DRIVER_PARTS_H

#include "driver.h"

struct json_t;

/* Builds sources that are not the plan's, with the job's options and progress. Owner: caller,
 * rg_cpu_close. */
rg_status rg_job_objects(rg_job *job, const rg_cpu_source *source, int count, rg_cpu_kernel *kernel,
                         rg_cpu_stats *stats, rg_cpu_library **library) RG_CHECKED;

/* verify: the adjoint identities of every convolution geometry of the plan. Adds to the counts. */
rg_status rg_verify_adjoints(rg_job *job, int *checked, int *failed) RG_CHECKED;

/* ---- the machine ---- */

typedef struct rg_peak {
    double gflops; /* multiply-adds in registers, all threads */
    double gbps;   /* reading from memory, all threads */
} rg_peak;

rg_status rg_peak_measure(rg_job *job, rg_peak *peak) RG_CHECKED;
/* Units: microseconds. What the machine needs at least: the variant's own multiplications at the
 * peak, or each argument once over the memory's wires (what lies in a cache may come faster). */
double rg_peak_floor(const rg_peak *peak, const rg_kdesc *desc, int32_t live);

/* Of a device by its name (that of an H100 where it is not known), for products of the kernel's
 * format. *told: whose figures they are. */
rg_peak rg_floor_peak(const char *device, const rg_kdesc *desc, const char **told);
/* The device's name (target cuda). */
const char *rg_job_cuda_name(const rg_job *job);
/* --dump=floor (target cuda): each kernel of a training step, its work, its floors on devices whose
 * figures are known, the cost model's estimate. */
void rg_floor_dump(rg_text *text, const rg_job *job);

/* ---- bench: the whole step and evaluation ---- */

/* Prints them, or adds them to `into` where that is not NULL. */
rg_status rg_bench_step(rg_job *job, const rg_peak *peak, struct json_t *into) RG_CHECKED;

double rg_now_ms(void);

/* JSON has neither infinity nor NaN: those of a wrong kernel become 1e300. */
double rg_number_for_json(double value);

#endif
