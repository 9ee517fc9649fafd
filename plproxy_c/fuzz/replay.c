/*
 * replay.c
 *	  Gives files to the fuzz target without a fuzzer: each file named, and each
 *	  file of each folder named.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int			LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

static int	nfiles;

static void
replay_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE	   *file = fopen(path, "rb");
	size_t		size;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	nfiles++;
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		DIR		   *dir = opendir(argv[i]);
		struct dirent *entry;

		if (dir == NULL)
		{
			replay_file(argv[i]);
			continue;
		}
		while ((entry = readdir(dir)) != NULL)
		{
			char		path[4096];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			replay_file(path);
		}
		closedir(dir);
	}
	printf("%d bodies read\n", nfiles);
	return nfiles == 0;
}
