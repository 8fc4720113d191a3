#include "driver.h"

int main(int argc, char **argv) {
    return rg_driver_main(argc, argv);
}
