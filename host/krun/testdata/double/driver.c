// SPDX-License-Identifier: Apache-2.0
//
// driver LIBRARY loads a libkrun and makes the calls that it reads, one a line, as
// name and arguments with tabs between them: a number, "null", "s:" and a string,
// "w:" and words with commas between them, "m:" and a hardware address in hex. It
// answers each with name and result, or "missing".

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CALL = 7, MAX_LIST = 128 };

static long words_of(char *text)
{
	char **list = calloc(MAX_LIST + 1, sizeof *list), *save = NULL;
	int n = 0;
	for (char *w = strtok_r(text, ",", &save); w != NULL && n < MAX_LIST; w = strtok_r(NULL, ",", &save))
		list[n++] = w;
	return (long)list;
}

static long mac_of(const char *text)
{
	uint8_t *mac = calloc(6, 1);
	for (int i = 0; i < 6 && strlen(text) >= 2 * (size_t)(i + 1); i++) {
		char byte[3] = {text[2 * i], text[2 * i + 1], 0};
		mac[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return (long)mac;
}

static long argument(char *text)
{
	if (strcmp(text, "null") == 0)
		return 0;
	if (strncmp(text, "s:", 2) == 0)
		return (long)(text + 2);
	if (strncmp(text, "w:", 2) == 0)
		return words_of(text + 2);
	if (strncmp(text, "m:", 2) == 0)
		return mac_of(text + 2);
	return strtol(text, NULL, 0);
}

// call passes every argument as a long, which the ABIs of Linux on amd64 and arm64
// read as any type: the first six or eight in registers, the others in words.
static void call(void *library, char *line)
{
	long a[MAX_CALL] = {0};
	char *save = NULL, *name = strtok_r(line, "\t\n", &save);
	if (name == NULL)
		return;
	int n = 0;
	for (char *t = strtok_r(NULL, "\t\n", &save); t != NULL; t = strtok_r(NULL, "\t\n", &save)) {
		if (n == MAX_CALL)
			exit(2);
		a[n++] = argument(t);
	}
	void *f = dlsym(library, name);
	if (f == NULL) {
		printf("%s missing\n", name);
		return;
	}
	int32_t r = ((int32_t (*)(long, long, long, long, long, long, long))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	printf("%s %d\n", name, r);
}

int main(int argc, char **argv)
{
	static char lines[1024][8192]; // strings are pointers into these
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (library == NULL) {
		fprintf(stderr, "driver: %s\n", argc == 2 ? dlerror() : "want a library");
		return 2;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	for (int i = 0; i < 1024 && fgets(lines[i], sizeof lines[i], stdin) != NULL; i++)
		call(library, lines[i]);
	return 0;
}
