// What wit-bindgen has made of the world, with its warnings kept to itself.
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"

#include "../bindings/plugin.c"
