/* Runs the program itself and looks at what it prints. The test defines FOLDER, where its files go,
 * before it includes this. */
#ifndef RG_CLI_RUN_H
#define RG_CLI_RUN_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "rg_core.h"

#define SPEC "specs/tiny/mlp.lua"
/* Quick kernels in a cache that the tests of this build share. */
#define QUICK "--optimise=1", "--cache=" RG_BINARY_DIR "/parity-cache"

enum { MOST = 16, OUTPUT = 1 << 16 };

typedef struct result {
    int code; /* 128 + signal where one ended it */
    char out[OUTPUT], err[OUTPUT];
} result;

static result last;

/* ---- running ---- */

static inline int open_for_child(const char *name) {
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    return file;
}

static inline pid_t start(char *const *argv, char *const *envp, int out, int err) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    if (dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execve(RG_PROGRAM, argv, envp);
    _exit(127);
}

static inline int wait_for(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void slurp(const char *name, char *to) {
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    to[fread(to, 1, OUTPUT - 1, file)] = '\0';
    fclose(file);
}

/* The address sanitizer's remark on fibres, a line of its own, is none of the program's. */
static inline void drop_remark(char *text) {
    char *end, *remark = strstr(text, "WARNING: ASan doesn't fully support makecontext");
    if (!remark || !(end = strchr(remark, '\n'))) return;
    while (remark > text && remark[-1] != '\n') remark--;
    memmove(remark, end + 1, strlen(end + 1) + 1);
}

static inline void run_in(char *const *envp, const char *const *words) {
    char *argv[MOST + 2] = {RG_PROGRAM};
    for (int i = 0; words[i]; i++) {
        assert_true(i < MOST);
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    int out = open_for_child(FOLDER "/out"), err = open_for_child(FOLDER "/err");
    last.code = wait_for(start(argv, envp, out, err));
    close(out);
    close(err);
    slurp(FOLDER "/out", last.out);
    slurp(FOLDER "/err", last.err);
    drop_remark(last.err);
}

#define RUN(...) run_in(environ, (const char *const[]){__VA_ARGS__, NULL})

/* ---- expectations ---- */

static inline void show(void) {
    print_error("exit code %d\n-- output:\n%s-- errors:\n%s", last.code, last.out, last.err);
}

/* This code, and one line on standard error that holds `text`. */
static inline void expect_line(int code, const char *text) {
    size_t length = strlen(last.err);
    bool one = length > 1 && strchr(last.err, '\n') == last.err + length - 1;
    if (last.code == code && one && strstr(last.err, text)) return;
    show();
    fail_msg("expected exit code %d and one line with '%s'", code, text);
}

static inline void expect_done(void) {
    if (last.code == 0 && last.err[0] == '\0') return;
    show();
    fail_msg("expected exit code 0 and no errors");
}

static inline void write_bytes(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

/* ---- set-up ---- */

static inline int make_folder(void **state) {
    (void)state;
    unsetenv("RG_CIFAR10_DIR"); /* no data but what a test names */
    if (chdir(RG_SOURCE_DIR) != 0) return -1;
    return mkdir(FOLDER, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

#endif
