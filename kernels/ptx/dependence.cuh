// A launch beside the one before it in the stream: sm_90 and later.
//
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions: griddepcontrol".
#pragma once
#include "ptx/types.cuh"

// griddepcontrol.wait: until the launch before in the stream is over, and what it wrote can be read.
__device__ __forceinline__ void griddepcontrol_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// griddepcontrol.launch_dependents: the launch behind in the stream may begin once every block has said so or has ended. It
// waits itself until this one is over.
__device__ __forceinline__ void griddepcontrol_launch_dependents() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
