/* Inside the emitter: the comment on top of a file. */
#ifndef RG_EMIT_IMPL_H
#define RG_EMIT_IMPL_H

#include "rg_emit.h"

/* What the kernel computes, its counts and its launch, as one C comment. */
void rg_emit_header(rg_text *text, const rg_kdesc *desc, const char *symbol);

#endif
