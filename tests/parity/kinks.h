/* How near a run comes to where a gradient jumps: rounding may then choose the other side. */
#ifndef RG_PARITY_KINKS_H
#define RG_PARITY_KINKS_H

#include "parity.h"

/* The smallest |input| of a comparison with zero, and the smallest lead of a maximum in a window,
 * relative to the root mean square of that tensor; exact ties aside (zero + zero is zero in any
 * precision). After parity_interpret. */
double parity_nearest_kink(rg_interp *interp, const rg_graph *graph, int32_t n);

#endif
