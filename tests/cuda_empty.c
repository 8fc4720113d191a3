/* Stands in the driver's place and has none of its functions. */
extern int rg_cuda_empty;
int rg_cuda_empty = 1;
