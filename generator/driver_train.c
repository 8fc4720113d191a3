#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"
#include "rg_report.h"

/* ---- data ---- */

static bool has_cifar(rg_ctx *ctx, const char *dir) {
    static const char *const places[] = {"", "/cifar-10-batches-bin"};
    for (int i = 0; i < 2; i++) {
        struct stat info;
        char *path = rg_arena_printf(ctx->arena, "%s%s/data_batch_1.bin", dir, places[i]);
        if (path && stat(path, &info) == 0) return true;
    }
    return false;
}

/* Where CIFAR-10 lies: --data, else $RG_CIFAR10_DIR, else ./data; NULL: nowhere. */
static const char *find_cifar(rg_job *job) {
    if (job->cli->data) return strcmp(job->cli->data, "synthetic") == 0 ? NULL : job->cli->data;
    if (strcmp(job->spec->dataset, "cifar10") != 0) return NULL;
    const char *env = getenv("RG_CIFAR10_DIR");
    if (env && *env && has_cifar(job->ctx, env)) return env;
    return has_cifar(job->ctx, "data") ? "data" : NULL;
}

static rg_status synthetic(rg_job *job, rg_dataset *train, rg_dataset *valid) {
    uint32_t classes = (uint32_t)job->spec->classes;
    RG_TRY(rg_dataset_synthetic(job->ctx, job->spec->seed, true, 10000, classes, train));
    return rg_dataset_synthetic(job->ctx, job->spec->seed, false, 2000, classes, valid);
}

rg_status rg_job_data(rg_job *job, rg_dataset *train, rg_dataset *valid, const char **told) {
    const char *dir = find_cifar(job);
    if (job->spec->channels != 3)
        return rg_error(job->ctx, RG_E_SHAPE, (rg_loc){job->cli->spec, 0},
                        "data: the images have 3 channels, the network takes %d",
                        job->spec->channels);
    if (dir) {
        RG_TRY(rg_dataset_cifar10(job->ctx, dir, true, train));
        RG_TRY(rg_dataset_cifar10(job->ctx, dir, false, valid));
    } else {
        RG_TRY(synthetic(job, train, valid));
    }
    bool wanted = dir || job->cli->data || strcmp(job->spec->dataset, "cifar10") != 0;
    *told = rg_arena_printf(job->ctx->arena, "data: %s%s%s, %u training and %u validation images",
                            dir ? "CIFAR-10 in " : "synthetic", dir ? dir : "",
                            wanted ? "" : " (no CIFAR-10 found: give --data=DIR)", train->count,
                            valid->count);
    return *told ? RG_OK : rg_nomem(job->ctx);
}

/* ---- running ---- */

static volatile sig_atomic_t stop_flag;

static void on_signal(int number) {
    (void)number;
    stop_flag = 1;
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void print_build(const rg_job *job) {
    if (job->cli->quiet || job->cli->json) return;
    printf("kernels: %d compiled, %d from the cache in %s, %.1f s\n", job->stats.compiled,
           job->stats.cached, job->stats.cache_dir ? job->stats.cache_dir : "memory",
           job->stats.seconds);
    if (job->stats.note) printf("note: %s\n", job->stats.note);
}

static void tell(const rg_job *job, const char *path, const char *what) {
    if (!job->cli->quiet && !job->cli->json) printf("%s: %s\n", path, what);
}

/* Of a file that is to be written (NULL: none): better now than after an epoch. */
static rg_status check_folder(const rg_job *job, const char *path) {
    if (!path) return RG_OK;
    const char *name = strrchr(path, '/');
    const char *folder =
        name ? rg_arena_printf(job->ctx->arena, "%.*s/", (int)(name - path), path) : "./";
    if (!folder) return rg_nomem(job->ctx);
    if (access(folder, W_OK | X_OK) == 0) return RG_OK;
    return rg_fail(job->ctx, RG_E_IO, "cannot write '%s': its folder '%s': %s", path, folder,
                   strerror(errno));
}

/* The file that training begins with; NULL: none. Reading tells what else is wrong with it. */
static const char *first_file(const rg_job *job) {
    const char *resume = job->cli->resume;
    if (resume && (access(resume, F_OK) == 0 || errno != ENOENT)) return resume;
    if (resume) tell(job, resume, "not there yet, training starts afresh");
    return job->cli->init;
}

/* An epoch's images, their order, and what `steps` says of it depend on both. */
static void tell_order(const rg_job *job, const char *path, const rg_trained *done) {
    const rg_spec *spec = job->spec;
    if (!done->batch || (done->batch == (uint64_t)spec->batch && done->seed == spec->seed)) return;
    const char *text = rg_arena_printf(
        job->ctx->arena,
        "trained with --batch=%llu --seed=%llu, goes on with --batch=%d --seed=%llu: other images "
        "than a run never stopped",
        (unsigned long long)done->batch, (unsigned long long)done->seed, spec->batch,
        (unsigned long long)spec->seed);
    if (text) tell(job, path, text);
}

/* The file is another optimiser's. */
static void tell_unused(const rg_job *job, const char *path, const rg_trained *done) {
    static const char *const what[] = {
        NULL, "its optim.moment1 is ignored: this spec's optimiser keeps no moments",
        "its optim.moment2 is ignored: this spec's optimiser keeps first moments alone, and takes "
        "optim.moment1 for them",
        "its optim.moment1 and optim.moment2 are ignored: this spec's optimiser keeps no moments"};
    int which = done->unused[0] + 2 * done->unused[1];
    if (which) tell(job, path, what[which]);
}

static rg_status start(rg_job *job, rg_exec **exec, rg_trained *done) {
    RG_TRY(rg_job_build(job));
    print_build(job);
    RG_TRY(rg_job_exec(job, exec));
    rg_params_init(*exec, job->spec->seed);
    const char *path = first_file(job);
    if (!path) return RG_OK;
    RG_TRY(rg_params_load(job->ctx, *exec, path, done));
    if (path == job->cli->resume) tell_order(job, path, done);
    bool trains = strcmp(job->cli->command, "train") == 0;
    if (trains && !done->optim_steps && rg_params_has_optim(rg_exec_plan(*exec)))
        tell(job, path, "holds nothing of the optimiser, which starts afresh");
    if (trains) tell_unused(job, path, done);
    return RG_OK;
}

static void print_epoch_json(void *user, const rg_epoch *e) {
    (void)user;
    printf("{\"epoch\": %u, \"steps\": %llu, \"first_step\": %llu, \"last_step\": %llu, ", e->epoch,
           (unsigned long long)e->steps, (unsigned long long)e->first_step,
           (unsigned long long)e->last_step);
    printf("\"train_loss\": %.9g, \"train_acc\": %.9g, ", e->train_loss, e->train_acc);
    if (e->validated)
        printf("\"valid_loss\": %.9g, \"valid_acc\": %.9g, ", e->valid_loss, e->valid_acc);
    printf("\"valid_images\": %llu, \"train_seconds\": %.3f, \"seconds\": %.3f}\n",
           (unsigned long long)e->valid_images, e->train_seconds, e->seconds);
    fflush(stdout);
}

/* Batches of an evaluation during training, 0: all. A batch of the reference network takes the
 * emulator minutes. */
static uint64_t eval_steps(const rg_cli *cli) {
    if (cli->eval_steps != RG_EVAL_UNSET) return cli->eval_steps;
    return strcmp(cli->device, "emulate") == 0 ? 1 : 0;
}

/* Where to stop, counted from the start of the training; 0: nowhere. With --resume the same command
 * again must come to the same end; --init starts a run of its own. */
static uint64_t last_step(const rg_cli *cli, const rg_trained *done) {
    uint64_t last = 0;
    if (cli->resume || cli->steps == 0) return cli->steps;
    return __builtin_add_overflow(done->steps, cli->steps, &last) ? 0 : last;
}

static rg_status train_with(rg_job *job, rg_exec *exec, const rg_dataset *train,
                            const rg_dataset *valid, const rg_trained *done) {
    uint64_t steps;
    rg_report report;
    rg_report_init(&report, stdout, stderr, job->cli->quiet);
    rg_train_options options = {.train = train,
                                .valid = job->cli->eval_steps ? valid : NULL,
                                .epochs = (uint32_t)job->spec->epochs,
                                .steps = last_step(job->cli, done),
                                .done = *done,
                                .eval_steps = eval_steps(job->cli),
                                .shuffle = !job->cli->no_shuffle,
                                .seed = job->spec->seed,
                                .save = job->cli->save,
                                .checkpoint = job->cli->resume,
                                .print_steps = job->cli->steps > 0 && job->cli->steps <= 1000,
                                .stop = &stop_flag,
                                .line = job->cli->json ? NULL : rg_report_line,
                                .progress = rg_report_progress,
                                .evaluating = rg_report_evaluating,
                                .epoch = job->cli->json ? print_epoch_json : NULL,
                                .user = &report};
    catch_signals();
    rg_status status = rg_train(job->ctx, exec, &options, &steps);
    rg_report_clear(&report);
    if (status == RG_OK && steps == done->steps && !job->cli->quiet && !job->cli->json)
        printf("nothing left to train: %llu steps were done before\n", (unsigned long long)steps);
    return status;
}

rg_status rg_command_train(rg_job *job) {
    RG_TRY(check_folder(job, job->cli->save));
    RG_TRY(check_folder(job, job->cli->resume));
    if (strcmp(job->cli->device, "reference") == 0) return rg_reference_train(job);
    rg_exec *exec = NULL;
    rg_dataset train = {0}, valid = {0};
    const char *told;
    rg_trained done = {0};
    rg_status status = rg_job_data(job, &train, &valid, &told);
    if (status == RG_OK && !job->cli->quiet && !job->cli->json) printf("%s\n", told);
    if (status == RG_OK) status = start(job, &exec, &done);
    if (status == RG_OK) status = train_with(job, exec, &train, &valid, &done);
    const char *const saved[] = {job->cli->save, job->cli->resume};
    for (int i = 0; i < 2; i++)
        if (status == RG_OK && saved[i] && !job->cli->quiet && !job->cli->json)
            printf("saved %s\n", saved[i]);
    rg_exec_free(exec);
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
    return status;
}

static rg_status eval_with(rg_job *job, rg_exec *exec, const rg_dataset *valid) {
    rg_report report;
    rg_evaluation found;
    char text[160];
    rg_report_init(&report, stdout, stderr, job->cli->quiet);
    rg_eval_options options = {.set = valid,
                               .stop = &stop_flag,
                               .line = job->cli->json ? NULL : rg_report_line,
                               .evaluating = rg_report_evaluating,
                               .user = &report};
    if (job->cli->eval_steps != RG_EVAL_UNSET) options.steps = job->cli->eval_steps;
    catch_signals();
    rg_status status = rg_eval(job->ctx, exec, &options, &found);
    rg_report_clear(&report);
    RG_TRY(status);
    if (job->cli->json) {
        printf("{\"loss\": %.9g, \"accuracy\": %.9g, \"images\": %llu}\n", found.loss,
               found.accuracy, (unsigned long long)found.images);
        return RG_OK;
    }
    rg_evaluation_format(&found, valid->count, text, sizeof text);
    printf("%s\n", text);
    return RG_OK;
}

rg_status rg_command_eval(rg_job *job) {
    if (!job->cli->init)
        return rg_fail(job->ctx, RG_E_USAGE,
                       "eval: which checkpoint? give --init=FILE.safetensors");
    rg_exec *exec = NULL;
    rg_dataset train = {0}, valid = {0};
    const char *told;
    rg_trained done = {0};
    rg_status status = rg_job_data(job, &train, &valid, &told);
    if (status == RG_OK) status = start(job, &exec, &done);
    if (status == RG_OK) status = eval_with(job, exec, &valid);
    rg_exec_free(exec);
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
    return status;
}
