/* One block of threads: each is a fibre from the moment it has to wait for another; a thread that
 * ends leaves its fibre to the next, so that a block without barriers runs on one stack. Which of
 * the ready threads comes next is drawn by lot. */
#include "rg_emulate_impl.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __x86_64__
#include <xmmintrin.h>
#endif

static const rg_emulate_calls calls;

/* ---- workers ---- */

/* A region is aligned to its size, so that a mask finds it. */
static char *reserve_region(void) {
    size_t size = RG_EMULATE_REGION;
    char *at = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    char *aligned = (char *)(((uintptr_t)at + size - 1) & ~(uintptr_t)(size - 1));
    size_t before = (size_t)(aligned - at);
    if (before) munmap(at, before);
    if (before < size) munmap(aligned + size, size - before);
    return aligned;
}

rg_emu_worker *rg_emu_worker_new(void) {
    char *region = reserve_region();
    if (!region) return NULL;
    /* The lowest page of each stack is a guard: a stack that is too small ends the program, and
     * corrupts nothing. */
    for (size_t i = 0; i < RG_EMULATE_MAX_THREADS; i++)
        if (mprotect(region + RG_EMULATE_STACKS_AT + i * RG_EMULATE_STACK, 4096, PROT_NONE) != 0) {
            munmap(region, RG_EMULATE_REGION);
            return NULL;
        }
    rg_emu_worker *worker = (rg_emu_worker *)(void *)region;
    worker->seen.call = &calls;
    worker->seen.shared = region + RG_EMULATE_SHARED_AT;
    worker->seen.word = (rg_emulate_word *)(void *)(region + RG_EMULATE_WORDS_AT);
    return worker;
}

void rg_emu_worker_free(rg_emu_worker *worker) {
    if (!worker) return;
    for (int i = 0; i < RG_EMULATE_MAX_THREADS; i++) rg_emu_copies_free(&worker->thread[i]);
    munmap(worker, RG_EMULATE_REGION);
}

/* xorshift64*: the quality of the order matters little, its speed does. */
uint32_t rg_emu_random(uint64_t *state, uint32_t below) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)(((*state * 0x2545f4914f6cdd1dULL >> 32) * below) >> 32);
}

/* ---- threads ---- */

void rg_emu_make_ready(rg_emu_worker *worker, int thread) {
    worker->thread[thread].state = RG_EMU_READY;
    worker->ready[worker->ready_count++] = (uint16_t)thread;
}

static int take_ready(rg_emu_worker *worker) {
    if (worker->ready_count == 0) return -1;
    uint32_t i = rg_emu_random(&worker->random, (uint32_t)worker->ready_count);
    int thread = worker->ready[i];
    worker->ready[i] = worker->ready[--worker->ready_count];
    return thread;
}

static void fibre_main(void *argument);

/* How far below its end a stack begins: tops that lie a power of two apart would share the few
 * cache lines of one set. */
static size_t stagger(int fibre) {
    return (size_t)fibre * 576 % 16384;
}

/* The fibre on which a taken thread goes on, or begins. */
static rg_emu_fibre *fibre_for(rg_emu_worker *worker, int thread) {
    rg_emu_thread *t = &worker->thread[thread];
    if (t->state != RG_EMU_NEW) return &worker->fibre[t->fibre];
    worker->start = thread;
    if (worker->free_count > 0) {
        t->fibre = worker->free_fibre[--worker->free_count];
    } else {
        t->fibre = worker->made++;
        char *stack = (char *)worker + RG_EMULATE_STACKS_AT + (size_t)t->fibre * RG_EMULATE_STACK;
        size_t bytes = RG_EMULATE_STACK - 4096 - stagger(t->fibre);
        if (!rg_emu_fibre_make(&worker->fibre[t->fibre], stack + 4096, bytes, fibre_main, worker))
            rg_emu_fault(worker, "no fibre can be made");
    }
    return &worker->fibre[t->fibre];
}

static const char *describe_wait(const rg_emu_thread *thread, char text[64]) {
    if (thread->state == RG_EMU_DONE) return "has ended";
    snprintf(text, 64, "waits at the %s of line %d",
             thread->state == RG_EMU_AT_BARRIER ? "barrier" : "warp operation", thread->line);
    return text;
}

/* No thread can go on: some wait for others that will not come. */
static _Noreturn void report_stuck(rg_emu_worker *worker) {
    char one[64], other[64];
    int first = -1, second = -1;
    for (int i = 0; i < worker->seen.threads && first < 0; i++)
        if (worker->thread[i].state != RG_EMU_DONE) first = i;
    const rg_emu_thread *thread = &worker->thread[first < 0 ? 0 : first];
    bool of_warp = thread->state == RG_EMU_AT_WARP;
    for (int i = of_warp ? first & ~31 : 0; i < worker->seen.threads && second < 0; i++)
        if (worker->thread[i].state != thread->state || worker->thread[i].line != thread->line)
            second = i;
    worker->seen.thread = first;
    rg_emu_fault(worker, "divergent %s: it %s, but thread %d %s",
                 thread->state == RG_EMU_AT_BARRIER ? "barrier" : "warp operation",
                 describe_wait(thread, one), second,
                 describe_wait(&worker->thread[second < 0 ? 0 : second], other));
}

void rg_emu_yield(rg_emu_worker *worker) {
    int mine = worker->seen.thread, next = take_ready(worker);
    if (next < 0) report_stuck(worker);
    if (next != mine)
        rg_emu_fibre_switch(&worker->fibre[worker->thread[mine].fibre], fibre_for(worker, next));
    worker->seen.thread = mine;
    worker->seen.turn = worker->warp[mine / 32].turn;
}

/* The thread has ended. Returns when its fibre has got another one to run: worker->start. */
static void end_thread(rg_emu_worker *worker, int thread) {
    int fibre = worker->thread[thread].fibre;
    worker->thread[thread].state = RG_EMU_DONE;
    worker->finished++;
    int next = take_ready(worker);
    if (next < 0 && worker->finished < worker->seen.threads) report_stuck(worker);
    if (next >= 0 && worker->thread[next].state == RG_EMU_NEW) {
        worker->thread[next].fibre = fibre;
        worker->start = next;
        return;
    }
    worker->free_fibre[worker->free_count++] = (uint16_t)fibre;
    rg_emu_fibre_switch(&worker->fibre[fibre], next < 0 ? &worker->home : fibre_for(worker, next));
}

static void fibre_main(void *argument) {
    rg_emu_worker *worker = argument;
    for (;;) {
        int thread = worker->start;
        worker->seen.thread = thread;
        worker->seen.turn = worker->warp[thread / 32].turn;
        worker->thread[thread].state = RG_EMU_READY;
        worker->launch->function->kernel->call(worker->launch->argument);
        end_thread(worker, thread);
    }
}

/* ---- a block ---- */

static void poison_words(rg_emu_worker *worker, size_t at, size_t bytes) {
    for (size_t i = at / 4; i < (at + bytes + 3) / 4; i++)
        worker->seen.word[i] = (rg_emulate_word){.write_time = RG_EMULATE_UNWRITTEN};
}

/* Shared memory as a block finds it: unwritten, with red zones between the arrays. */
static void reset_shared(rg_emu_worker *worker) {
    const rg_emu_launch *launch = worker->launch;
    const struct CUmod_st *module = launch->function->module;
    size_t end = module->dynamic_at + launch->shared_bytes, used = worker->shadow_end;
    if (used < end) used = end;
    uint32_t *data = (uint32_t *)(void *)worker->seen.shared;
    for (size_t i = 0; i < (end + 3) / 4; i++) data[i] = RG_EMU_POISON;
    worker->seen.dynamic_at = module->dynamic_at;
    worker->seen.dynamic_bytes = launch->shared_bytes;
    worker->shadow_end = end;
    if (!module->content->checks) return;
    memset(worker->seen.word, 0, (used + 3) / 4 * sizeof *worker->seen.word);
    for (rg_emulate_site *site = module->content->site; site < module->content->site_end; site++)
        poison_words(worker, site->at, site->bytes);
    poison_words(worker, module->dynamic_at, launch->shared_bytes);
}

static void reset_threads(rg_emu_worker *worker) {
    int threads = worker->launch->threads;
    worker->ready_count = worker->finished = worker->at_barrier = 0;
    for (int i = 0; i < threads; i++) {
        rg_emu_thread *thread = &worker->thread[i];
        thread->state = RG_EMU_NEW;
        thread->meetings = thread->group = 0;
        thread->copies = 0;
        worker->ready[worker->ready_count++] = (uint16_t)i;
    }
    for (int i = 0; i * 32 < threads; i++) {
        int lanes = threads - i * 32;
        worker->warp[i].lanes = lanes < 32 ? lanes : 32;
        worker->warp[i].waiting = 0;
        worker->warp[i].turn = 0;
    }
}

static void run_block(rg_emu_worker *worker, uint32_t block) {
    const rg_emu_launch *launch = worker->launch;
    worker->random = (launch->seed ^ (block + 1) * 0x9e3779b97f4a7c15ULL) | 1;
    worker->seen.block = (int)block;
    worker->seen.tag = launch->first_tag + RG_EMULATE_STAGES * (1 + block);
    worker->seen.time = RG_EMULATE_FIRST_TIME;
    rg_emu_meeting_leave(worker);
    reset_shared(worker);
    reset_threads(worker);
    rg_emu_fibre_switch(&worker->home, fibre_for(worker, take_ready(worker)));
}

/* Subnormals count as zero where the kernel was compiled so. Returns the state before. */
static unsigned set_flush(bool flush) {
#if defined __x86_64__
    unsigned before = _mm_getcsr();
    _mm_setcsr(flush ? before | 0x8040u : before & ~0x8040u);
    return before;
#else
    (void)flush;
    return 0;
#endif
}

static void restore_flush(unsigned before) {
#if defined __x86_64__
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

void rg_emu_worker_run(rg_emu_worker *worker, rg_emu_launch *launch) {
    unsigned before = set_flush(launch->function->module->content->flush != 0);
    worker->launch = launch;
    worker->seen.device = rg_emu_device.base;
    worker->seen.device_bytes = rg_emu_device.bytes;
    worker->seen.cell = rg_emu_device.cell;
    worker->seen.first_tag = launch->first_tag;
    worker->seen.threads = launch->threads;
    worker->seen.blocks = (int)launch->blocks;
    worker->made = worker->free_count =
        0; /* a fault may have left fibres in the middle of a thread */
    while (!__atomic_load_n(&launch->failed, __ATOMIC_RELAXED)) {
        uint32_t i = __atomic_fetch_add(&launch->next, 1, __ATOMIC_RELAXED);
        if (i >= launch->blocks) break;
        run_block(worker, launch->order[i]);
    }
    rg_emu_meeting_leave(worker);
    restore_flush(before);
}

static void call_fault(rg_emulate_worker *seen, const char *what) {
    rg_emu_fault(rg_emu_of(seen), "%s", what);
}

static void call_misaligned(rg_emulate_worker *seen, const void *at, int line) {
    rg_emu_fault(rg_emu_of(seen), "misaligned access of line %d at %p", line, at);
}

static const rg_emulate_calls calls = {
    .read = rg_emu_check_read,
    .write = rg_emu_check_write,
    .barrier = rg_emu_barrier,
    .warp_barrier = rg_emu_warp_barrier,
    .meet = rg_emu_meet,
    .mma = rg_emu_mma,
    .rows = rg_emu_rows,
    .last_block = rg_emu_last_block,
    .copy_async = rg_emu_copy_async,
    .copy_commit = rg_emu_copy_commit,
    .copy_wait = rg_emu_copy_wait,
    .misaligned = call_misaligned,
    .fault = call_fault,
};
