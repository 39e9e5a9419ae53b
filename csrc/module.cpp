// The loadable library: what is about the object as a whole. Ops are declared in Python (ganengine/ops/<op>.py), and each
// csrc/<op>/ registers its own kernels; loading the object with torch.ops.load_library is enough, it needs no Python.
#include <torch/csrc/stable/library.h>

#include <string>
