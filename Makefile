# SPDX-License-Identifier: MIT
# A thin front to Meson: `make` and `make test` on a machine that has only gcc, make, git and Python.
# Each target installs what it lacks (tools/setup.sh) and is quiet unless something fails.
#
#   make                         build; leaves the command at build/tensorport
#   make demo                    convert a real model, verify it, compute with it in JAX
#   make test | test-long        every check and test | the sweeps, valgrind, TSan, qemu, clang
#   make fuzz TIME=60 TARGET=    the fuzz targets, or one of them, for so many seconds each
#   make coverage                which lines and branches of src/ the tests run
#   make bench                   kernels, then whole conversions beside cp and the copy limit
#   make format                  rewrites the C files as .clang-format says
#   make install PREFIX=/usr/local DESTDIR=
#   make clean                   removes build/, installed Python packages included

PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
SETUP := sh tools/setup.sh
QUIET := sh tools/quiet.sh

.PHONY: all demo test test-long fuzz coverage bench format install clean help
.DEFAULT_GOAL := all

all:
	@$(SETUP) build
	@sh tools/build.sh release
	@ln -sfn release/cli/tensorport $(BUILD)/tensorport

demo: all
	@$(SETUP) demo
	@sh tools/demo.sh

test:
	@$(SETUP) build test
	@$(BUILD)/venv/bin/python tools/run_tests.py $(ARGS)

test-long:
	@$(SETUP) build test long
	@$(BUILD)/venv/bin/python tools/run_tests.py --long

fuzz:
	@$(SETUP) build fuzz
	@sh tools/build.sh fuzz
	@python3 tools/fuzz.py --time $(or $(TIME),60) $(TARGET)

coverage:
	@$(SETUP) build test fuzz
	@$(BUILD)/venv/bin/python tools/measure_coverage.py

bench: all
	@sh tools/build.sh release bench/bench_kernels bench/copy_limit
	@$(BUILD)/release/bench/bench_kernels
	@python3 bench/bench.py --bin $(BUILD)/tensorport --copy-limit $(BUILD)/release/bench/copy_limit
	@$(SETUP) test
	@$(BUILD)/venv/bin/python bench/orbax_bench.py --bin $(BUILD)/tensorport --copy-limit $(BUILD)/release/bench/copy_limit

format:
	@$(SETUP) test
	@sh tools/check_format.sh --fix

install: all
	@$(QUIET) "installing under $(DESTDIR)$(PREFIX)" install sh tools/install.sh "$(PREFIX)" "$(DESTDIR)"

clean:
	@rm -rf $(BUILD)

help:
	@sed -n 's/^#  *make/make/p' Makefile
