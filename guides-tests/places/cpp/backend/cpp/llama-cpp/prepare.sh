#!/bin/bash
# The backend is built below a copy of llama.cpp.
set -e

mkdir -p llama.cpp/tools/grpc-server
cp -r CMakeLists.txt llama.cpp/tools/grpc-server/
cp -r grpc-server.cpp llama.cpp/tools/grpc-server/
# snippet: prepare
