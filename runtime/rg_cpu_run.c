/* Child processes: no shell, bounded output, none left behind. */
#include "rg_cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 64 * 1024, MAX_PARALLEL = 256 };

/* ---- signals: a handler writes the signal's number into a pipe that the loop below watches ----
 */

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
enum { CAUGHT = sizeof caught / sizeof *caught };

static volatile sig_atomic_t signal_pipe = -1;

typedef struct signal_watch {
    int pipe[2];
    bool set[CAUGHT];
    struct sigaction before[CAUGHT];
} signal_watch;

static void on_signal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    if (signal_pipe >= 0 && write(signal_pipe, &byte, 1) < 0) errno = 0; /* full: one is enough */
    errno = saved;
}

static rg_status watch_signals(rg_ctx *ctx, signal_watch *watch) {
    *watch = (signal_watch){0};
    if (pipe2(watch->pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return rg_fail(ctx, RG_E_IO, "cannot make a pipe: %s", strerror(errno));
    signal_pipe = watch->pipe[1];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < CAUGHT; i++) {
        sigaction(caught[i], NULL, &watch->before[i]);
        if (watch->before[i].sa_handler == SIG_IGN) continue; /* nohup: stays ignored */
        watch->set[i] = sigaction(caught[i], &action, NULL) == 0;
    }
    return RG_OK;
}

/* The caller's handlers are back after this. Returns the number of a signal that came meanwhile, or
 * 0. */
static int unwatch_signals(signal_watch *watch) {
    unsigned char number = 0;
    for (int i = 0; i < CAUGHT; i++)
        if (watch->set[i]) sigaction(caught[i], &watch->before[i], NULL);
    signal_pipe = -1;
    bool came = read(watch->pipe[0], &number, 1) == 1;
    close(watch->pipe[0]);
    close(watch->pipe[1]);
    return came ? number : 0;
}

/* ---- one child ---- */

static int spawn_into(rg_cpu_job *job, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        /* A group of its own: ending it ends what the compiler has started, too. */
        error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        if (!error) error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        if (!error) error = posix_spawn_file_actions_adddup2(&actions, output, 1);
        if (!error) error = posix_spawn_file_actions_adddup2(&actions, output, 2);
        if (!error)
            error =
                posix_spawn(&job->pid, job->argv[0], &actions, &attributes, job->argv, job->envp);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static rg_status start(rg_ctx *ctx, rg_cpu_job *job) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return rg_fail(ctx, RG_E_IO, "cannot make a pipe: %s", strerror(errno));
    int error = spawn_into(job, ends[1]);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        return rg_fail(ctx, RG_E_BUILD, "cannot start '%s': %s", job->argv[0], strerror(error));
    }
    job->pipe = ends[0];
    return RG_OK;
}

/* Waits for a child whose output has ended (or which has been killed). */
static void reap(rg_cpu_job *job) {
    int status = 0;
    close(job->pipe);
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR) continue;
    job->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Takes what is there; false when the output has ended. What goes beyond the bound is read and
 * dropped. */
static bool read_output(rg_cpu_job *job) {
    char bytes[4096];
    ssize_t got = read(job->pipe, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) return false;
    size_t room = OUTPUT_BYTES - job->output.length;
    rg_text_add_bytes(&job->output, bytes, (size_t)got < room ? (size_t)got : room);
    return true;
}

/* ---- all of them ---- */

typedef struct run_state {
    rg_cpu_job *running[MAX_PARALLEL];
    int count;
    bool failed;
} run_state;

static void kill_all(run_state *run) {
    for (int i = 0; i < run->count; i++) kill(-run->running[i]->pid, SIGKILL);
    for (int i = 0; i < run->count; i++) {
        reap(run->running[i]);
        run->running[i]->exit_code = -1; /* its failure is ours */
    }
    run->count = 0;
}

/* Waits for news of any child or of a signal (then returns false). */
static bool poll_once(run_state *run, int signals, void (*finished)(void *, rg_cpu_job *),
                      void *user) {
    struct pollfd set[MAX_PARALLEL + 1];
    for (int i = 0; i < run->count; i++)
        set[i] = (struct pollfd){.fd = run->running[i]->pipe, .events = POLLIN};
    set[run->count] = (struct pollfd){.fd = signals, .events = POLLIN};
    if (poll(set, (nfds_t)run->count + 1, -1) < 0) return errno == EINTR;
    if (set[run->count].revents) return false;
    for (int i = run->count - 1; i >= 0; i--) {
        rg_cpu_job *job = run->running[i];
        if (!set[i].revents || read_output(job)) continue;
        reap(job);
        run->running[i] = run->running[--run->count];
        if (job->exit_code != 0)
            run->failed = true;
        else if (finished)
            finished(user, job);
    }
    return true;
}

rg_status rg_cpu_run(rg_ctx *ctx, rg_cpu_job *job, int count, int parallel,
                     void (*finished)(void *user, rg_cpu_job *job), void *user, int *signal) {
    signal_watch watch;
    run_state run = {.count = 0};
    rg_status status = RG_OK;
    bool interrupted = false;
    *signal = 0;
    if (parallel > MAX_PARALLEL) parallel = MAX_PARALLEL;
    for (int i = 0; i < count; i++) job[i].exit_code = -1;
    RG_TRY(watch_signals(ctx, &watch));
    for (int next = 0; status == RG_OK && !interrupted && !run.failed;) {
        if (next < count && run.count < parallel) {
            status = start(ctx, &job[next]);
            if (status == RG_OK) run.running[run.count++] = &job[next++];
        } else if (run.count > 0) {
            interrupted = !poll_once(&run, watch.pipe[0], finished, user);
        } else {
            break;
        }
    }
    kill_all(&run);
    *signal = unwatch_signals(&watch);
    return *signal ? rg_fail(ctx, RG_E_INTERRUPTED, "interrupted while compiling") : status;
}
