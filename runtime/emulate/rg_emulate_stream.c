/* Streams: what is put into one waits there until somebody asks for it, or until the lot falls on
 * it, so that a program that forgets to wait, or that counts on waiting, is found out. Each stream
 * keeps its order; between streams only events do. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct CUstream_st *streams;
static struct CUstream_st legacy = {.flags = 0};

/* ---- launches ---- */

static bool copy_arguments(rg_emu_call *call, void *const *params) {
    const rg_emulate_kernel *kernel = call->function->kernel;
    size_t count = (size_t)kernel->arguments, bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += (kernel->argument_bytes[i] + 15u) & ~15u;
    size_t table = (count * sizeof(void *) + 15) & ~(size_t)15;
    call->argument = malloc(table + bytes + 16);
    if (!call->argument) return false;
    char *at = (char *)call->argument + table;
    for (size_t i = 0; i < count; i++) {
        call->argument[i] = memcpy(at, params[i], kernel->argument_bytes[i]);
        at += (kernel->argument_bytes[i] + 15u) & ~15u;
    }
    return true;
}

rg_cu_result rg_emu_call_make(rg_emu_call *call, struct CUfunc_st *function, const unsigned grid[3],
                              const unsigned block[3], size_t shared_bytes, void *const *params) {
    if (!function) return RG_CU_INVALID_HANDLE;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    size_t shared = shared_bytes + function->module->static_bytes;
    int bound = function->kernel->max_threads;
    if (grid[0] == 0 || grid[0] > 0x3fffffff || grid[1] != 1 || grid[2] != 1)
        return RG_CU_INVALID_VALUE;
    if (block[0] == 0 || block[1] != 1 || block[2] != 1 || threads > RG_EMULATE_MAX_THREADS)
        return RG_CU_INVALID_VALUE;
    if (bound && threads > (uint64_t)bound) return RG_CU_LAUNCH_OUT_OF_RESOURCES;
    if (function->module->static_bytes > 48 << 10 || shared_bytes > (size_t)function->dynamic_limit)
        return RG_CU_INVALID_VALUE;
    if (shared > (size_t)rg_emu_arch_of(rg_emu.option.arch)->shared_optin)
        return RG_CU_INVALID_VALUE;
    if (function->kernel->arguments > 0 && !params) return RG_CU_INVALID_VALUE;
    *call = (rg_emu_call){.function = function,
                          .blocks = grid[0],
                          .threads = (int)threads,
                          .shared_bytes = shared_bytes};
    return copy_arguments(call, params) ? RG_CU_SUCCESS : RG_CU_OUT_OF_MEMORY;
}

void rg_emu_call_free(rg_emu_call *call) {
    free(call->argument);
    call->argument = NULL;
}

rg_cu_result rg_emu_call_run(const rg_emu_call *call) {
    if (rg_emu.error != RG_CU_SUCCESS) return rg_emu.error;
    if (rg_emu_device_lost()) return rg_emu.error = RG_CU_DEVICE_UNAVAILABLE;
    if (rg_emu_grid_run(call->function, call->blocks, call->threads, call->shared_bytes,
                        call->argument, rg_emu.fault))
        return RG_CU_SUCCESS;
    bool address = strstr(rg_emu.fault, "out of bounds") != NULL;
    return rg_emu.error = address ? RG_CU_ILLEGAL_ADDRESS : RG_CU_LAUNCH_FAILED;
}

/* ---- one op ---- */

static void event_release(struct CUevent_st *event) {
    if (--event->users == 0) free(event);
}

static void op_free(rg_emu_op *op) {
    if (op->kind == RG_EMU_LAUNCH) rg_emu_call_free(&op->call);
    if (op->event) event_release(op->event);
    free(op);
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static rg_cu_result run_first(struct CUstream_st *stream);

static bool is_stream(const struct CUstream_st *wanted) {
    for (struct CUstream_st *stream = streams; stream; stream = stream->next)
        if (stream == wanted) return true;
    return false;
}

static rg_cu_result finish_event(struct CUevent_st *event, uint64_t record) {
    while (event->done < record && is_stream(event->stream) && event->stream->first) {
        rg_cu_result result = run_first(event->stream);
        if (result != RG_CU_SUCCESS) return result;
    }
    return RG_CU_SUCCESS;
}

rg_cu_result rg_emu_fill_words(rg_cu_ptr at, uint32_t value, size_t words) {
    uint32_t *word = (uint32_t *)(uintptr_t)at;
    for (size_t i = 0; i < words; i++) word[i] = value;
    rg_emu_memory_written(at, words * 4);
    return RG_CU_SUCCESS;
}

static rg_cu_result op_run(const rg_emu_op *op) {
    switch (op->kind) {
    case RG_EMU_LAUNCH:
        return rg_emu_call_run(&op->call);
    case RG_EMU_COPY_IN:
        memcpy((void *)(uintptr_t)op->device, op->from, op->bytes);
        rg_emu_memory_written(op->device, op->bytes);
        return RG_CU_SUCCESS;
    case RG_EMU_COPY_OUT:
        memcpy(op->to, (const void *)(uintptr_t)op->device, op->bytes);
        return RG_CU_SUCCESS;
    case RG_EMU_FILL:
        return rg_emu_fill_words(op->device, op->value, op->bytes / 4);
    case RG_EMU_RECORD:
        if (!op->event) return RG_CU_INVALID_HANDLE;
        op->event->done = op->record;
        op->event->time = now_ms();
        return RG_CU_SUCCESS;
    case RG_EMU_WAIT:
        return finish_event(op->event, op->record);
    case RG_EMU_GRAPH:
        return rg_emu_graph_run(op->graph);
    }
    return RG_CU_INVALID_VALUE;
}

static rg_cu_result run_first(struct CUstream_st *stream) {
    rg_emu_op *op = stream->first;
    if (rg_emu.error != RG_CU_SUCCESS) return rg_emu.error;
    rg_cu_result result =
        op_run(op); /* a wait may run other streams, never this one's first op again */
    stream->first = op->next;
    if (!stream->first) stream->last = NULL;
    op_free(op);
    return result;
}

/* ---- streams ---- */

static rg_cu_result drain_stream(struct CUstream_st *stream) {
    rg_cu_result result = rg_emu.error;
    while (stream->first && result == RG_CU_SUCCESS) result = run_first(stream);
    return result;
}

/* One of the streams that have work, by lot; NULL if none has. */
static struct CUstream_st *any_stream(bool blocking_alone) {
    struct CUstream_st *chosen = NULL;
    uint32_t seen = 0;
    for (struct CUstream_st *stream = streams; stream; stream = stream->next) {
        if (!stream->first || (blocking_alone && (stream->flags & RG_CU_STREAM_NON_BLOCKING)))
            continue;
        if (rg_emu_random(&rg_emu.random, ++seen) == 0) chosen = stream;
    }
    return chosen;
}

rg_cu_result rg_emu_drain(bool blocking_alone) {
    for (struct CUstream_st *stream; (stream = any_stream(blocking_alone));) {
        rg_cu_result result = run_first(stream);
        if (result != RG_CU_SUCCESS) return result;
    }
    return rg_emu.error;
}

rg_cu_result rg_emu_enqueue(struct CUstream_st *stream, const rg_emu_op *op) {
    rg_emu_op *copy = malloc(sizeof *copy);
    if (!copy) {
        rg_emu_call call = op->call; /* a launch's arguments are the stream's from here on */
        rg_emu_call_free(&call);
        return RG_CU_OUT_OF_MEMORY;
    }
    *copy = *op;
    copy->next = NULL;
    if (copy->event) copy->event->users++;
    if (!stream) {
        rg_cu_result result = rg_emu_drain(true);
        legacy.first = legacy.last = copy;
        if (result == RG_CU_SUCCESS) return run_first(&legacy);
        legacy.first = legacy.last = NULL;
        op_free(copy);
        return result;
    }
    if (stream->last)
        stream->last->next = copy;
    else
        stream->first = copy;
    stream->last = copy;
    /* Sometimes a device is quick. Errors are for the call that waits. */
    struct CUstream_st *quick = rg_emu_random(&rg_emu.random, 4) == 0 ? any_stream(false) : NULL;
    if (quick) (void)run_first(quick);
    return RG_CU_SUCCESS;
}

static void drop_ops(struct CUstream_st *stream) {
    for (rg_emu_op *op = stream->first, *next; op; op = next) {
        next = op->next;
        op_free(op);
    }
    stream->first = stream->last = NULL;
}

void rg_emu_streams_close(void) {
    for (struct CUstream_st *stream = streams; stream; stream = stream->next) drop_ops(stream);
}

static rg_cu_result emu_stream_create(rg_cu_stream *stream, unsigned flags) {
    RG_EMU_ENTER(cuStreamCreate, RG_CU_OUT_OF_MEMORY);
    struct CUstream_st *made = calloc(1, sizeof *made);
    if (!made) return RG_CU_OUT_OF_MEMORY;
    made->flags = flags;
    made->next = streams;
    streams = made;
    rg_emu.alive++;
    *stream = made;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_stream_destroy(rg_cu_stream stream) {
    RG_EMU_ENTER_RELEASE();
    struct CUstream_st **link = &streams;
    while (*link && *link != stream) link = &(*link)->next;
    if (!*link) return RG_CU_INVALID_HANDLE;
    rg_cu_result result = drain_stream(stream);
    drop_ops(stream);
    *link = stream->next;
    free(stream);
    rg_emu.alive--;
    return rg_emu_released(RG_EMU_CALL_cuStreamDestroy_v2, RG_CU_INVALID_HANDLE, result);
}

static rg_cu_result emu_stream_synchronize(rg_cu_stream stream) {
    RG_EMU_ENTER(cuStreamSynchronize, RG_CU_LAUNCH_FAILED);
    return stream ? drain_stream(stream) : rg_emu_drain(true);
}

/* ---- events ---- */

static rg_cu_result emu_event_create(rg_cu_event *event, unsigned flags) {
    RG_EMU_ENTER(cuEventCreate, RG_CU_OUT_OF_MEMORY);
    (void)flags;
    struct CUevent_st *made = calloc(1, sizeof *made);
    if (!made) return RG_CU_OUT_OF_MEMORY;
    made->users = 1;
    rg_emu.alive++;
    *event = made;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_event_destroy(rg_cu_event event) {
    RG_EMU_ENTER_RELEASE();
    if (!event) return RG_CU_INVALID_HANDLE;
    event_release(event);
    rg_emu.alive--;
    return rg_emu_released(RG_EMU_CALL_cuEventDestroy_v2, RG_CU_INVALID_HANDLE, RG_CU_SUCCESS);
}

static rg_cu_result emu_event_record(rg_cu_event event, rg_cu_stream stream) {
    RG_EMU_ENTER(cuEventRecord, RG_CU_INVALID_HANDLE);
    if (!event) return RG_CU_INVALID_HANDLE;
    if (event->stream != stream) { /* its places in two streams would have no order */
        rg_cu_result result = finish_event(event, event->asked);
        if (result != RG_CU_SUCCESS) return result;
    }
    event->stream = stream;
    rg_emu_op op = {.kind = RG_EMU_RECORD, .event = event, .record = ++event->asked};
    return rg_emu_enqueue(stream, &op);
}

static rg_cu_result emu_stream_wait_event(rg_cu_stream stream, rg_cu_event event, unsigned flags) {
    RG_EMU_ENTER(cuStreamWaitEvent, RG_CU_INVALID_HANDLE);
    if (!event || flags != 0) return event ? RG_CU_INVALID_VALUE : RG_CU_INVALID_HANDLE;
    rg_emu_op op = {.kind = RG_EMU_WAIT, .event = event, .record = event->asked};
    return rg_emu_enqueue(stream, &op);
}

static rg_cu_result emu_event_synchronize(rg_cu_event event) {
    RG_EMU_ENTER(cuEventSynchronize, RG_CU_LAUNCH_FAILED);
    return event ? finish_event(event, event->asked) : RG_CU_INVALID_HANDLE;
}

static rg_cu_result emu_event_elapsed(float *ms, rg_cu_event start, rg_cu_event end) {
    RG_EMU_ENTER(cuEventElapsedTime, RG_CU_INVALID_HANDLE);
    if (!start || !end || start->asked == 0 || end->asked == 0) return RG_CU_INVALID_HANDLE;
    if (start->done < start->asked || end->done < end->asked) return 600; /* CUDA_ERROR_NOT_READY */
    *ms = (float)(end->time - start->time);
    return RG_CU_SUCCESS;
}

/* ---- copies and launches ---- */

static rg_cu_result emu_copy_in(rg_cu_ptr to, const void *from, size_t bytes) {
    RG_EMU_ENTER(cuMemcpyHtoD_v2, RG_CU_INVALID_VALUE);
    if (!rg_emu_memory_holds(to, bytes)) return RG_CU_INVALID_VALUE;
    rg_emu_op op = {.kind = RG_EMU_COPY_IN, .device = to, .from = from, .bytes = bytes};
    return rg_emu_enqueue(NULL, &op);
}

static rg_cu_result emu_copy_out(void *to, rg_cu_ptr from, size_t bytes) {
    RG_EMU_ENTER(cuMemcpyDtoH_v2, RG_CU_INVALID_VALUE);
    if (!rg_emu_memory_holds(from, bytes)) return RG_CU_INVALID_VALUE;
    rg_emu_op op = {.kind = RG_EMU_COPY_OUT, .device = from, .to = to, .bytes = bytes};
    return rg_emu_enqueue(NULL, &op);
}

static rg_cu_result emu_copy_in_async(rg_cu_ptr to, const void *from, size_t bytes,
                                      rg_cu_stream stream) {
    RG_EMU_ENTER(cuMemcpyHtoDAsync_v2, RG_CU_INVALID_VALUE);
    if (!rg_emu_memory_holds(to, bytes)) return RG_CU_INVALID_VALUE;
    rg_emu_op op = {.kind = RG_EMU_COPY_IN, .device = to, .from = from, .bytes = bytes};
    return rg_emu_enqueue(stream, &op);
}

static rg_cu_result emu_copy_out_async(void *to, rg_cu_ptr from, size_t bytes,
                                       rg_cu_stream stream) {
    RG_EMU_ENTER(cuMemcpyDtoHAsync_v2, RG_CU_INVALID_VALUE);
    if (!rg_emu_memory_holds(from, bytes)) return RG_CU_INVALID_VALUE;
    rg_emu_op op = {.kind = RG_EMU_COPY_OUT, .device = from, .to = to, .bytes = bytes};
    return rg_emu_enqueue(stream, &op);
}

static rg_cu_result emu_fill(rg_cu_ptr at, unsigned char value, size_t bytes) {
    RG_EMU_ENTER(cuMemsetD8_v2, RG_CU_INVALID_VALUE);
    if (!rg_emu_memory_holds(at, bytes)) return RG_CU_INVALID_VALUE;
    rg_cu_result result = rg_emu_drain(true);
    if (result != RG_CU_SUCCESS) return result;
    memset((void *)(uintptr_t)at, value, bytes);
    rg_emu_memory_written(at, bytes);
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_fill_async(rg_cu_ptr at, unsigned value, size_t words,
                                   rg_cu_stream stream) {
    RG_EMU_ENTER(cuMemsetD32Async, RG_CU_INVALID_VALUE);
    if (at % 4 || words > SIZE_MAX / 4 || !rg_emu_memory_holds(at, words * 4))
        return RG_CU_INVALID_VALUE;
    rg_emu_op op = {.kind = RG_EMU_FILL, .device = at, .value = value, .bytes = words * 4};
    return rg_emu_enqueue(stream, &op);
}

static rg_cu_result emu_launch(rg_cu_function function, unsigned grid_x, unsigned grid_y,
                               unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, rg_cu_stream stream,
                               void **params, void **extra) {
    RG_EMU_ENTER(cuLaunchKernel, RG_CU_LAUNCH_FAILED);
    rg_emu_op op = {.kind = RG_EMU_LAUNCH};
    const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    if (extra) return RG_CU_NOT_SUPPORTED;
    rg_cu_result result = rg_emu_call_make(&op.call, function, grid, block, shared_bytes, params);
    if (result != RG_CU_SUCCESS) return result;
    return rg_emu_enqueue(stream, &op);
}

void rg_emu_stream_fill(rg_cuda_driver *driver) {
    driver->stream_create = emu_stream_create;
    driver->stream_destroy = emu_stream_destroy;
    driver->stream_synchronize = emu_stream_synchronize;
    driver->stream_wait_event = emu_stream_wait_event;
    driver->event_create = emu_event_create;
    driver->event_record = emu_event_record;
    driver->event_synchronize = emu_event_synchronize;
    driver->event_elapsed = emu_event_elapsed;
    driver->event_destroy = emu_event_destroy;
    driver->copy_in = emu_copy_in;
    driver->copy_out = emu_copy_out;
    driver->copy_in_async = emu_copy_in_async;
    driver->copy_out_async = emu_copy_out_async;
    driver->fill = emu_fill;
    driver->fill_async = emu_fill_async;
    driver->launch = emu_launch;
}
