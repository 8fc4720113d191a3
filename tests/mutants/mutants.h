/* Kernels broken on purpose: what the tests must see. */
#ifndef MUTANTS_H
#define MUTANTS_H

/* One way to break a kernel. Patterns are POSIX extended regular expressions. */
typedef struct mutant {
    const char *name;       /* what was done */
    const char *kernel;     /* the symbol of the kernels that it is meant for */
    const char *with;       /* what the kernel's text must hold besides, or NULL */
    const char *find, *put; /* text that is taken for text; \1 to \9 stand for groups. NULL: the
                               text stays */
    int at;                 /* 0: every match is replaced; n: the n-th alone */
    int images;             /* the kernel runs with more images than this */
    int partial;            /* 1: and the last block of images is not full */
    int shared_bytes;       /* added to the launch's dynamic shared memory */
} mutant;

/* A row without a name ends a list. */
extern const mutant mutants_conv[], mutants_wgrad[], mutants_rest[], mutants_mma[], mutants_tail[],
    mutants_instances[], mutants_rider[];

#endif
