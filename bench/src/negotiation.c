#define _GNU_SOURCE
#include "negotiation.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void fail(const char *what)
{
    perror(what);
    exit(1);
}

int dial(const char *address)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address))};
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int is_port = strchr(address, '/') == NULL, one = 1;
    int fd = socket(is_port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", address);
    if (fd < 0)
        fail("socket");
    if (is_port)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, is_port ? (void *)&inet : (void *)&local, is_port ? sizeof inet : sizeof local) < 0)
        fail(address);
    return fd;
}

static void read_all(int fd, void *data, size_t length)
{
    for (ssize_t got; length > 0; data = (char *)data + got, length -= (size_t)got)
        if ((got = read(fd, data, length)) <= 0)
            fail("negotiation");
}

struct agreement negotiate(int fd)
{
    const uint32_t offer[] = {htonl(VERSION), htonl(ACTIONS), htonl(PROTOCOL)};
    struct agreement agreed = {0};
    uint32_t size, answer[3], stage;
    char packet[5 + sizeof offer] = {0, 0, 0, 1 + sizeof offer, 'O'}, command, text[1024];
    memcpy(packet + 5, offer, sizeof offer);
    if (write(fd, packet, sizeof packet) != sizeof packet)
        fail("negotiation");
    read_all(fd, &size, sizeof size);
    read_all(fd, &command, 1);
    read_all(fd, answer, sizeof answer);
    size_t left = ntohl(size) - 1 - sizeof answer;
    agreed.flags = ntohl(answer[2]);
    if (command != 'O' || left > sizeof text || agreed.flags & ~(uint32_t)PROTOCOL
        || ntohl(answer[1]) & ~(uint32_t)ACTIONS) {
        fprintf(stderr, "the milter agreed to what was not offered\n");
        exit(1);
    }
    read_all(fd, text, left);
    for (size_t at = 0; at + sizeof stage < left; at += strlen(text + at) + 1) {
        memcpy(&stage, text + at, sizeof stage);
        at += sizeof stage;
        if (ntohl(stage) < STAGES)
            snprintf(agreed.macros[ntohl(stage)], sizeof agreed.macros[0], "%s", text + at);
    }
    return agreed;
}
