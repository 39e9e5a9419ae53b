// Marks a function for both sides: nvcc compiles it for the host and the GPU, any other compiler for the host.
#pragma once

#ifdef __CUDACC__
#define GANENGINE_HD __host__ __device__
#else
#define GANENGINE_HD
#endif
