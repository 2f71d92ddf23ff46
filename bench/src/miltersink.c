/* miltersink: a milter that reads all and keeps nothing, to see how fast milterload can be.
 *
 *   miltersink PATH
 *
 * It agrees to what benno-milter agrees to: replies to MAIL and to the end of a message only. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "negotiation.h"

enum { QUIET = NR_CONNECT | NR_HELO | NR_RCPT | NR_DATA | NR_HEADER | NR_EOH | NR_BODY };

struct connection {
    int fd;
    unsigned char head[5]; /* length and command of the packet that is read */
    size_t held, left;     /* octets of the head; of its data, still to be passed over */
};

void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void answer(int fd, char command)
{
    static const char go_on[] = {0, 0, 0, 1, 'c'};
    const uint32_t flags = QUIET | NO_CONNECT | NO_HELO | NO_DATA | LEADING_SPACE;
    const uint32_t words[] = {htonl(VERSION), 0, htonl(flags)};
    char agreed[5 + sizeof words] = {0, 0, 0, 1 + sizeof words, 'O'};
    memcpy(agreed + 5, words, sizeof words);
    if (command == 'O' && write(fd, agreed, sizeof agreed) < 0)
        fail("write");
    if (strchr("ME", command) != NULL && write(fd, go_on, sizeof go_on) < 0)
        fail("write");
}

static void take(struct connection *one, const unsigned char *data, size_t length)
{
    while (length > 0) {
        size_t passed = one->left < length ? one->left : length;
        one->left -= passed;
        data += passed;
        length -= passed;
        while (one->left == 0 && length > 0 && one->held < sizeof one->head)
            one->head[one->held++] = *data++, length--;
        if (one->left > 0 || one->held < sizeof one->head)
            continue;
        uint32_t size;
        memcpy(&size, one->head, sizeof size);
        one->left = ntohl(size) - 1;
        one->held = 0;
        answer(one->fd, (char)one->head[4]); /* the data of what is answered is not needed for it */
    }
}

int main(int argc, char **argv)
{
    static unsigned char data[65536];
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), events = epoll_create1(0);
    if (argc != 2)
        return 2;
    snprintf(local.sun_path, sizeof local.sun_path, "%s", argv[1]);
    unlink(argv[1]);
    if (bind(listening, (void *)&local, sizeof local) < 0 || listen(listening, 1024) < 0)
        fail(argv[1]);
    struct connection door = {.fd = listening};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &door}, ready[64];
    epoll_ctl(events, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int count = epoll_wait(events, ready, 64, -1);
        for (int number = 0; number < count; number++) {
            struct connection *one = ready[number].data.ptr;
            if (one == &door) {
                one = calloc(1, sizeof *one);
                one->fd = accept(listening, NULL, NULL);
                event.data.ptr = one;
                epoll_ctl(events, EPOLL_CTL_ADD, one->fd, &event);
                continue;
            }
            ssize_t got = read(one->fd, data, sizeof data);
            if (got > 0) {
                take(one, data, (size_t)got);
            } else {
                close(one->fd);
                free(one);
            }
        }
    }
}
