// SPDX-License-Identifier: Apache-2.0

#include "double.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DOUBLE_ORDERS
#define DOUBLE_ORDERS ""
#endif

// baked is in the library's file: a test gives its copy orders of its own by
// writing them behind the marker, which needs no compiler. Lines of key=value.
#define MARKER "WAGGLE DOUBLE ORDERS\n"
static const volatile char baked[4096] __attribute__((used)) = MARKER DOUBLE_ORDERS;

enum { MAX_ORDERS = 64 };

static char *orders[MAX_ORDERS];
static int norders;

static void add_lines(char *text)
{
	char *save = NULL;
	for (char *line = strtok_r(text, "\n;", &save); line != NULL; line = strtok_r(NULL, "\n;", &save)) {
		if (line[0] == '#' || strchr(line, '=') == NULL)
			continue;
		if (norders == MAX_ORDERS) {
			fprintf(stderr, "double: too many orders\n");
			abort();
		}
		orders[norders++] = copied(line);
	}
}

static void add_baked(void)
{
	char text[sizeof baked];
	for (size_t i = 0; i < sizeof baked; i++)
		text[i] = baked[i]; // volatile: not what the compiler saw
	text[sizeof text - 1] = 0;
	add_lines(text + strlen(MARKER));
}

static void add_file(const char *dir)
{
	char path[4096], text[4096];
	if (dir == NULL)
		return;
	snprintf(path, sizeof path, "%s/%s", dir, ORDERS_FILE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n < 0)
		return;
	text[n] = 0;
	add_lines(text);
}

static void load(void)
{
	add_baked();
	if (access(JAIL_DIR, F_OK) == 0)
		add_file(JAIL_DIR);
	else
		add_file(getenv("DOUBLE_DIR"));
}

static void loaded(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
}

const char *order_value(const char *key)
{
	loaded();
	size_t n = strlen(key);
	for (int i = 0; i < norders; i++)
		if (strncmp(orders[i], key, n) == 0 && orders[i][n] == '=')
			return orders[i] + n + 1;
	return NULL;
}

const char *order_about(const char *key, const char *call)
{
	loaded();
	size_t n = strlen(key), m = strlen(call);
	for (int i = 0; i < norders; i++) {
		const char *o = orders[i];
		if (strncmp(o, key, n) != 0 || o[n] != '=' || strncmp(o + n + 1, call, m) != 0)
			continue;
		const char *rest = o + n + 1 + m;
		if (*rest == ':')
			return rest + 1;
		if (*rest == 0)
			return rest;
	}
	return NULL;
}

bool order_is(const char *key, const char *value)
{
	const char *is = order_value(key);
	return is != NULL && strcmp(is, value) == 0;
}
