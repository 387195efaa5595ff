/* A wrong wall clock for one process, by LD_PRELOAD: the seconds in the file $CHAOS_CLOCK are added, read again twice a
 * second. The monotonic clock and all sleeping stay as they are, which libfaketime does not manage: with it, Python's
 * time.sleep (clock_nanosleep until a moment) fails with EINVAL as soon as the clock is faked.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic long offset_s, read_at_s;

static long offset(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  long half_seconds = now.tv_sec * 2 + now.tv_nsec / 500000000;
  if (half_seconds != read_at_s) {
    const char *path = getenv("CHAOS_CLOCK");
    FILE *file = path ? fopen(path, "re") : NULL;
    long wanted;
    read_at_s = half_seconds;
    if (file) {
      if (fscanf(file, "%ld", &wanted) == 1) offset_s = wanted;
      fclose(file);
    }
  }
  return offset_s;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int status = syscall(SYS_clock_gettime, clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
  return status;
}

int gettimeofday(struct timeval *now, void *zone) {
  int status = syscall(SYS_gettimeofday, now, zone);
  if (status == 0) now->tv_sec += offset();
  return status;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
