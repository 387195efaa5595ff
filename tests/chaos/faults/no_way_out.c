/* A network that is lost for one process, by LD_PRELOAD. While the file $CHAOS_EGRESS is there, its ports on IPv4
 * cannot be reached: "unreachable <port> ..." fails at once with ENETUNREACH; "<mute port> <port> ..." leads to a port
 * where nobody takes a connection, so that packets seem to be dropped. Datagrams to these ports vanish.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*connecting)(int, const struct sockaddr *, socklen_t);
typedef ssize_t (*sending)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);

/* 0: it passes; -1: unreachable; else the mute port. */
static int order(int port) {
  const char *path = getenv("CHAOS_EGRESS");
  FILE *file = path ? fopen(path, "re") : NULL;
  char word[16];
  int lost = 0, one;
  if (!file) return 0;
  if (fscanf(file, "%15s", word) == 1)
    while (!lost && fscanf(file, "%d", &one) == 1)
      if (one == port) lost = strcmp(word, "unreachable") ? atoi(word) : -1;
  fclose(file);
  return lost;
}

static int port_of(const struct sockaddr *to) {
  return to && to->sa_family == AF_INET ? ntohs(((const struct sockaddr_in *)to)->sin_port) : 0;
}

static int is_datagram(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

int connect(int fd, const struct sockaddr *to, socklen_t size) {
  connecting real = (connecting)dlsym(RTLD_NEXT, "connect");
  int port = port_of(to), lost = port && !is_datagram(fd) ? order(port) : 0;
  if (lost < 0) {
    errno = ENETUNREACH;
    return -1;
  }
  if (lost > 0) {
    struct sockaddr_in mute = *(const struct sockaddr_in *)to;
    mute.sin_port = htons(lost);
    return real(fd, (const struct sockaddr *)&mute, sizeof mute);
  }
  return real(fd, to, size);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size) {
  sending real = (sending)dlsym(RTLD_NEXT, "sendto");
  if (is_datagram(fd)) {
    struct sockaddr_in peer;
    socklen_t peer_size = sizeof peer;
    int port = port_of(to);
    if (!port && getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0) port = port_of((struct sockaddr *)&peer);
    if (port && order(port)) return (ssize_t)size;
  }
  return real(fd, data, size, flags, to, to_size);
}

ssize_t send(int fd, const void *data, size_t size, int flags) { return sendto(fd, data, size, flags, NULL, 0); }
