/* Broken launches of several instances: one's arguments or blocks in another's place. Arguments of
 * the weight gradients here: x, dy, dw or its parts; with a tail also dw and the counters. Of what
 * adds up parts: dw, the parts. */
#include <stddef.h>

#include "mutants.h"

#define WHOLE  "_wgrad_ffma_x2__f32"
#define SPLIT  "_wgrad_ffma_split_x2__f32"
#define TAIL   "_wgrad_ffma_split_tail_x2__f32"
#define FINISH "_wgrad_finish_x2__f32"

const mutant mutants_instances[] = {
    {.name = "instances: both multiply the first one's x",
     .kernel = WHOLE,
     .find = "(== 1\\) )a0 = a[0-9]+, ",
     .put = "\\1"},
    {.name = "instances: both multiply the first one's dy",
     .kernel = WHOLE,
     .find = "(== 1\\) a0 = a3), a1 = a4",
     .put = "\\1"},
    {.name = "instances: both write the first one's result",
     .kernel = WHOLE,
     .find = "(== 1\\) a0 = a3, a1 = a4), a2 = a5",
     .put = "\\1"},
    {.name = "instances: both leave the first one's parts",
     .kernel = SPLIT,
     .find = "(== 1\\) a0 = a3, a1 = a4), a2 = a5",
     .put = "\\1"},
    {.name = "instances: both add up in the first one's result",
     .kernel = TAIL,
     .find = "(== 1\\) a0 = a5, a1 = a6, a2 = a7), a3 = a8",
     .put = "\\1"},
    {.name = "instances: both count by the first one's counters",
     .kernel = TAIL,
     .find = "(== 1\\) a0 = a5, a1 = a6, a2 = a7, a3 = a8), a4 = a9",
     .put = "\\1"},
    {.name = "instances: a block's tile is counted among those of both",
     .kernel = WHOLE,
     .find = "rg_block\\(\\) / 2",
     .put = "rg_block()"},
    {.name = "instances: every third block is the second one's",
     .kernel = SPLIT,
     .find = "rg_block\\(\\) % 2 == 1",
     .put = "rg_block() % 3 == 1"},
    {.name = "instances: both gather into the first one's result",
     .kernel = FINISH,
     .find = "(== 1\\) )a0 = a2, ",
     .put = "\\1"},
    {.name = "instances: both gather the first one's parts",
     .kernel = FINISH,
     .find = "(== 1\\) a0 = a2), a1 = a3",
     .put = "\\1"},
    {.name = "instances: a block's channels are counted among those of both",
     .kernel = "_gather_x2__f32",
     .find = "rg_block\\(\\) / 2",
     .put = "rg_block()"},
    {.name = NULL},
};
