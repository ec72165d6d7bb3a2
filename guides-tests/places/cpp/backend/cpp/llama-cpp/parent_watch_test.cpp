#include "parent_watch.h"

int main() { return llama_grpc::parent_died(getppid()) ? 1 : 0; }
