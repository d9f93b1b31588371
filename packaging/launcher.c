/* SPDX-License-Identifier: MIT
 *
 * What our one-file executable does around its unpacking. Compiled into PyInstaller's bootloader, whose own functions
 * it wraps by the linker (see bootloader.py); does nothing in a one-folder build and in the workers' processes.
 *
 * - It unpacks where programs may run and there is room: a /tmp that is noexec or full is passed over for the next
 *   place, and where none is left one sentence says what to do. No variable is changed for the program itself.
 * - The folder is locked (flock, shared) by the first process and, through the inherited descriptor, by Python, for as
 *   long as either lives. So systemd-tmpfiles leaves it alone, and the next start knows a stale one and removes it.
 * - A signal that comes while unpacking waits until it can be passed on; one from the terminal, which reaches both
 *   processes by itself, is not sent twice.
 * - When the first process dies, Python is asked to stop (SIGTERM) and then removes the folder in its place.
 * - A program whose file was replaced by an upgrade can still start its workers' parent: the kernel has the old file.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pyi_global.h"
#include "pyi_archive.h"
#include "pyi_main.h"

#define MARKER ".imgpro-unpacked" /* is in a folder only after its lock, so that without the lock it is stale */
#define PREFIX "_MEI"             /* the name must be _MEI, the pid as %08x, six letters: the bootloader checks it */
#define YOUNG_S 60
#define LOCK_FD 200               /* out of the way of descriptors that are handed over by number */
#define EX_IOERR 74

void __real_pyi_launch_initialize(struct PYI_CONTEXT *ctx);
int __real_pyi_create_temporary_application_directory(struct PYI_CONTEXT *ctx);
char *__real_realpath(const char *path, char *resolved);
char *__real___realpath_chk(const char *path, char *resolved, size_t room); /* what a hardened build calls instead */
pid_t __real_waitpid(pid_t pid, int *status, int options);
typedef void (*handler_t)(int);
handler_t __real_signal(int number, handler_t handler);

static char folder[PYI_PATH_MAX]; /* the unpacked program, where this process is the one to remove it */
static pid_t owner;               /* the process that `folder` is meant for: a fork has both */
static pid_t loader;              /* in Python's process: the first process */

struct needs {
    unsigned long long bytes, files;
};

/* Why places were passed over, for the sentence. */
static char reasons[2048];

static void
say_reason(const char *place, const char *format, ...)
{
    size_t used = strlen(reasons);
    va_list values;

    used += snprintf(reasons + used, sizeof(reasons) - used, "%s%s ", used ? "; " : "", place);
    if (used < sizeof(reasons)) {
        va_start(values, format);
        vsnprintf(reasons + used, sizeof(reasons) - used, format, values);
        va_end(values);
    }
}

/* --- removing ---------------------------------------------------------------------------------------------------- */

/* Removes a folder and what is in it; follows no link. The mark goes last: a removal that is killed half-way is taken up
 * by the next start. Returns 0, or -1 if something is left. */
static int
remove_tree(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int left = 0;

    if (entries == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    while ((entry = readdir(entries)) != NULL) {
        const char *inner = entry->d_name;

        if (strcmp(inner, ".") == 0 || strcmp(inner, "..") == 0 || strcmp(inner, MARKER) == 0) {
            continue;
        }
        if (unlinkat(fd, inner, 0) < 0 && ((errno != EISDIR && errno != EPERM) || remove_tree(fd, inner) < 0)) {
            left = 1;
        }
    }
    if (!left) {
        unlinkat(fd, MARKER, 0);
    }
    closedir(entries);
    return left ? -1 : unlinkat(parent, name, AT_REMOVEDIR);
}

/* The bootloader removes what it has unpacked by this. */
int
__wrap_pyi_recursive_rmdir(const char *path)
{
    return remove_tree(AT_FDCWD, path);
}

/* Tells whether an unpacked folder is one of ours that nobody uses. */
static int
is_stale(int fd, int whole_place_is_ours)
{
    struct stat found, marker;

    if (fstat(fd, &found) < 0 || found.st_uid != geteuid()) {
        return 0;
    }
    if (fstatat(fd, MARKER, &marker, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(marker.st_mode)) {
        /* In a service's own cache nobody else unpacks; a young one may just be about to be locked. */
        if (!whole_place_is_ours || time(NULL) - found.st_mtime < YOUNG_S) {
            return 0;
        }
    }
    return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* Removes from `place` what starts that were killed have left there. */
static void
clear_stale(const char *place)
{
    const char *cache = getenv("CACHE_DIRECTORY");
    int whole_place_is_ours = cache != NULL && strcmp(cache, place) == 0;
    DIR *entries = opendir(place);
    struct dirent *entry;

    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        int fd;

        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0) {
            continue;
        }
        fd = openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
            if (is_stale(fd, whole_place_is_ours)) {
                remove_tree(dirfd(entries), entry->d_name);
            }
            close(fd);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
}

/* --- a place to unpack ------------------------------------------------------------------------------------------- */

static struct needs
needs_of(const struct ARCHIVE *archive)
{
    const struct TOC_ENTRY *entry;
    struct needs needs = {1 << 20, 16}; /* and a little for folders */

    for (entry = archive->toc; entry < archive->toc_end; entry = pyi_archive_next_toc_entry(archive, entry)) {
        if (strchr("bxZn", entry->typecode) != NULL) {
            needs.bytes += (entry->uncompressed_length + 4095ULL) & ~4095ULL;
            needs.files += 2;
        }
    }
    return needs;
}

/* Locks a new folder, marks it as ours and finds out whether programs may run from there. Returns the error, or 0. */
static int
claim(const char *path)
{
    int page = (int)sysconf(_SC_PAGESIZE);
    int fd = open(path, O_RDONLY | O_DIRECTORY), high, marker, problem = 0;

    if (fd < 0) {
        return errno;
    }
    /* The descriptor is inherited by Python and by nothing that Python starts. */
    high = fcntl(fd, F_DUPFD, LOCK_FD);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    flock(fd, LOCK_SH | LOCK_NB); /* a file system without locks: such a folder is never taken for stale */
    marker = openat(fd, MARKER, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (marker < 0 || ftruncate(marker, page) < 0) {
        problem = errno;
    } else {
        void *mapped = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, marker, 0);
        if (mapped == MAP_FAILED) {
            problem = errno;
        } else {
            munmap(mapped, page);
        }
    }
    if (marker >= 0) {
        close(marker);
    }
    if (problem) {
        close(fd);
    }
    return problem;
}

/* Tells whether somebody else could exchange what lies in a place, however it is protected itself. */
static int
belongs_to_others(const char *place)
{
    struct stat found;

    if (stat(place, &found) < 0 || (found.st_mode & S_ISVTX)) {
        return 0;
    }
    return (found.st_uid != 0 && found.st_uid != geteuid()) || (found.st_mode & S_IWOTH);
}

/* Makes the folder in `place`. Returns 0, or -1 with a reason said. */
static int
unpack_in(const char *place, const struct needs *needs, char *path)
{
    struct statvfs found;
    unsigned long long bytes;
    int problem;

    if (belongs_to_others(place)) {
        say_reason(place, "may be changed by others");
        return -1;
    }
    clear_stale(place);
    if (statvfs(place, &found) < 0) {
        say_reason(place, errno == ENOENT ? "does not exist" : "cannot be read");
        return -1;
    }
    if (found.f_flag & ST_NOEXEC) {
        say_reason(place, "does not allow programs to run (noexec)");
        return -1;
    }
    bytes = (geteuid() == 0 ? found.f_bfree : found.f_bavail) * (unsigned long long)found.f_frsize;
    if (bytes < needs->bytes) {
        say_reason(place, "has only %llu MB left", bytes >> 20);
        return -1;
    }
    if (found.f_files > 0 && found.f_favail < needs->files) {
        say_reason(place, "has no room for more files");
        return -1;
    }
    if (snprintf(path, PYI_PATH_MAX, "%s/%s%08xXXXXXX", place, PREFIX, getpid()) >= PYI_PATH_MAX) {
        say_reason(place, "has too long a name");
        return -1;
    }
    if (mkdtemp(path) == NULL) {
        say_reason(place, errno == EROFS ? "is read-only" : errno == EACCES ? "may not be written" : strerror(errno));
        return -1;
    }
    problem = claim(path);
    if (problem) {
        remove_tree(AT_FDCWD, path);
        if (problem == EPERM || problem == EACCES) {
            say_reason(place, "does not allow programs to run");
        } else {
            say_reason(place, "cannot be used: %s", strerror(problem));
        }
        return -1;
    }
    return 0;
}

static void
join(char *out, const char *first, const char *second)
{
    out[0] = 0;
    if (first != NULL && first[0] == '/' && snprintf(out, PYI_PATH_MAX, "%s%s", first, second) >= PYI_PATH_MAX) {
        out[0] = 0;
    }
}

/* Tries the places in turn: the bootloader's own, then those that services and people have for such files. */
static int
find_place(const struct needs *needs, const char *executable, char *path)
{
    char home_cache[PYI_PATH_MAX], beside[PYI_PATH_MAX];
    const char *places[11];
    int count = 0, i, j;
    char *end;

    join(home_cache, getenv("HOME"), "/.cache");
    join(beside, executable, "");
    end = strrchr(beside, '/');
    if (end != NULL && end != beside) {
        *end = 0;
    }
    places[count++] = getenv("TMPDIR");
    places[count++] = getenv("TEMP");
    places[count++] = getenv("TMP");
    places[count++] = "/tmp";
    places[count++] = "/var/tmp";
    places[count++] = "/usr/tmp";
    places[count++] = getenv("CACHE_DIRECTORY");
    places[count++] = getenv("XDG_CACHE_HOME");
    places[count++] = home_cache;
    places[count++] = beside;
    for (i = 0; i < count; i++) {
        struct stat found;
        int known = places[i] == NULL || places[i][0] != '/';

        for (j = 0; j < i && !known; j++) {
            known = places[j] != NULL && strcmp(places[i], places[j]) == 0;
        }
        /* What nobody named and is not there is no news. */
        if (known || (i >= 3 && stat(places[i], &found) < 0)) {
            continue;
        }
        if (unpack_in(places[i], needs, path) == 0) {
            return 0;
        }
    }
    return -1;
}

static void
hold_signals(int how)
{
    sigset_t held;

    sigemptyset(&held);
    sigaddset(&held, SIGHUP);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGQUIT);
    sigaddset(&held, SIGTERM);
    sigprocmask(how, &held, NULL);
}

int
__wrap_pyi_create_temporary_application_directory(struct PYI_CONTEXT *ctx)
{
    struct needs needs = needs_of(ctx->archive);

    if (ctx->runtime_tmpdir != NULL) {
        return __real_pyi_create_temporary_application_directory(ctx);
    }
    hold_signals(SIG_BLOCK);
    if (find_place(&needs, ctx->executable_filename, ctx->application_home_dir) == 0) {
        strcpy(folder, ctx->application_home_dir);
        owner = getpid();
        return 0;
    }
    fprintf(stderr,
            "imgpro: It found no place to unpack itself, which takes %llu MB where programs may run: %s.\n"
            "Try: TMPDIR=/another/folder imgpro ...; or install imgpro-*.tar.gz, which need not be unpacked to run\n",
            (needs.bytes >> 20) + 1, reasons);
    exit(EX_IOERR);
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static handler_t forward;

static void
on_signal(int number, siginfo_t *info, void *unused)
{
    (void)unused;
    if (info->si_code <= 0) { /* a process sent it, to us alone; the kernel's (a terminal's) reach all of a group */
        forward(number);
    }
}

handler_t
__wrap_signal(int number, handler_t handler)
{
    struct sigaction action;

    if (handler == SIG_DFL || handler == SIG_IGN) {
        return __real_signal(number, handler);
    }
    forward = handler;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    return sigaction(number, &action, NULL) < 0 ? SIG_ERR : SIG_DFL;
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int options)
{
    hold_signals(SIG_UNBLOCK); /* the handlers are in place now */
    return __real_waitpid(pid, status, options);
}

/* --- an upgrade meanwhile ---------------------------------------------------------------------------------------- */

static char *
or_self(char *found, const char *path, char *resolved)
{
    if (found == NULL && resolved != NULL && errno == ENOENT && strcmp(path, "/proc/self/exe") == 0 &&
        access(path, R_OK) == 0) {
        return strcpy(resolved, path);
    }
    return found;
}

char *
__wrap_realpath(const char *path, char *resolved)
{
    return or_self(__real_realpath(path, resolved), path, resolved);
}

char *
__wrap___realpath_chk(const char *path, char *resolved, size_t room)
{
    return or_self(__real___realpath_chk(path, resolved, room), path, resolved);
}

/* --- Python's process -------------------------------------------------------------------------------------------- */

void
__wrap_pyi_launch_initialize(struct PYI_CONTEXT *ctx)
{
    const char *name = strrchr(ctx->application_home_dir, '/');
    unsigned int pid;

    if (ctx->is_onefile && ctx->process_level == PYI_PROCESS_LEVEL_MAIN && name != NULL &&
        sscanf(name + 1, PREFIX "%08x", &pid) == 1) {
        strcpy(folder, ctx->application_home_dir);
        owner = getpid();
        loader = (pid_t)pid;
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != loader) { /* it died before it could be watched */
            remove_tree(AT_FDCWD, folder);
            _exit(128 + SIGTERM);
        }
        hold_signals(SIG_UNBLOCK);
    }
    __real_pyi_launch_initialize(ctx);
}

/* At the very end of the first process or of Python's: remove what the other one cannot. */
__attribute__((destructor)) static void
leave_nothing(void)
{
    if (folder[0] == 0 || owner != getpid()) {
        return;
    }
    if (loader != 0) {
        if (getppid() != loader) {
            remove_tree(AT_FDCWD, folder);
        }
    } else if (access(folder, F_OK) == 0) { /* the bootloader removes it unless unpacking failed */
        remove_tree(AT_FDCWD, folder);
        fprintf(stderr, "imgpro: It could not be unpacked into %s.\nTry: TMPDIR=/another/folder imgpro ...\n", folder);
        _exit(EX_IOERR);
    }
}
