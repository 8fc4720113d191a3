/* Fibres: ucontext gives a stack its start, _setjmp and _longjmp switch between those that run (no
 * system call, where swapcontext makes two). Under a sanitizer, which watches longjmp's target,
 * swapcontext does all. */
#undef _FORTIFY_SOURCE /* its longjmp refuses other stacks */
#include "rg_emulate_impl.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SLOW_SWITCH 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_SWITCH 1
#endif
#endif

/* makecontext passes ints. */
static void begin(unsigned entry_high, unsigned entry_low, unsigned high, unsigned low) {
    uintptr_t entry = (uintptr_t)entry_high << 32 | entry_low;
    uintptr_t argument = (uintptr_t)high << 32 | low;
    ((void (*)(void *))entry)((void *)argument);
}

bool rg_emu_fibre_make(rg_emu_fibre *fibre, void *stack, size_t bytes, void (*entry)(void *),
                       void *argument) {
    uint64_t code = (uint64_t)(uintptr_t)entry, value = (uint64_t)(uintptr_t)argument;
    fibre->started = false;
    if (getcontext(&fibre->context) != 0) return false;
    fibre->context.uc_stack.ss_sp = stack;
    fibre->context.uc_stack.ss_size = bytes;
    fibre->context.uc_link = NULL;
    makecontext(&fibre->context, (void (*)(void))begin, 4, (unsigned)(code >> 32), (unsigned)code,
                (unsigned)(value >> 32), (unsigned)value);
    return true;
}

#ifdef SLOW_SWITCH

void rg_emu_fibre_switch(rg_emu_fibre *from, rg_emu_fibre *to) {
    swapcontext(&from->context, &to->context);
}

void rg_emu_fibre_leave(rg_emu_fibre *to) {
    setcontext(&to->context);
    __builtin_unreachable();
}

#else

void rg_emu_fibre_leave(rg_emu_fibre *to) {
    if (to->started) _longjmp(to->place, 1);
    to->started = true;
    setcontext(&to->context);
    __builtin_unreachable();
}

void rg_emu_fibre_switch(rg_emu_fibre *from, rg_emu_fibre *to) {
    from->started = true;
    if (_setjmp(from->place) == 0) rg_emu_fibre_leave(to);
}

#endif
