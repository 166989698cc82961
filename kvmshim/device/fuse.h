/*
 * The part of libfuse 3.14's low-level ABI that kvmshim uses, as C declarations.
 *
 * After `fuse_lowlevel.h`, `fuse_common.h` and `cuse_lowlevel.h` with FUSE_USE_VERSION 312 on x86-64.
 * Slots of the operation tables that kvmshim leaves empty are `void *`: they count for the layout
 * alone. `tests/door/test_fuse_layout.py` holds every size and offset against the installed headers.
 */
typedef uint64_t fuse_ino_t;
typedef struct fuse_req *fuse_req_t;
typedef int64_t off_t;
struct fuse_session;
struct fuse_loop_config;

struct timespec { int64_t tv_sec; int64_t tv_nsec; };
struct stat {
    uint64_t st_dev;
    uint64_t st_ino;
    uint64_t st_nlink;
    uint32_t st_mode;
    uint32_t st_uid;
    uint32_t st_gid;
    int __pad0;
    uint64_t st_rdev;
    int64_t st_size;
    int64_t st_blksize;
    int64_t st_blocks;
    struct timespec st_atim;
    struct timespec st_mtim;
    struct timespec st_ctim;
    int64_t __glibc_reserved[3];
};

struct fuse_entry_param {
    fuse_ino_t ino;
    uint64_t generation;
    struct stat attr;
    double attr_timeout;
    double entry_timeout;
};

struct fuse_ctx { uint32_t uid; uint32_t gid; int32_t pid; uint32_t umask; };

struct fuse_args { int argc; char **argv; int allocated; };

struct fuse_conn_info {
    unsigned proto_major;
    unsigned proto_minor;
    unsigned max_write;
    unsigned max_read;
    unsigned max_readahead;
    unsigned capable;
    unsigned want;
    unsigned max_background;
    unsigned congestion_threshold;
    unsigned time_gran;
    unsigned reserved[22];
};

struct fuse_file_info {
    int flags;
    unsigned int writepage : 1;
    unsigned int direct_io : 1;
    unsigned int keep_cache : 1;
    unsigned int flush : 1;
    unsigned int nonseekable : 1;
    unsigned int flock_release : 1;
    unsigned int cache_readdir : 1;
    unsigned int noflush : 1;
    unsigned int padding : 24;
    unsigned int padding2 : 32;
    uint64_t fh;
    uint64_t lock_owner;
    uint32_t poll_events;
};

typedef void (*init_slot)(void *userdata, struct fuse_conn_info *conn);
typedef void (*lookup_slot)(fuse_req_t req, fuse_ino_t parent, const char *name);
typedef void (*forget_slot)(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
typedef void (*file_slot)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
typedef void (*read_slot)(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                          struct fuse_file_info *fi);
typedef void (*write_slot)(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
                           off_t off, struct fuse_file_info *fi);
typedef void (*setattr_slot)(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                             struct fuse_file_info *fi);
typedef void (*allocate_slot)(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
                              off_t length, struct fuse_file_info *fi);
typedef void (*ioctl_slot)(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
                           struct fuse_file_info *fi, unsigned flags,
                           const void *in_buf, size_t in_bufsz, size_t out_bufsz);

struct fuse_lowlevel_ops {
    init_slot init;
    void *destroy;
    lookup_slot lookup;
    forget_slot forget;
    file_slot getattr;
    setattr_slot setattr;
    void *readlink, *mknod, *mkdir, *unlink, *rmdir, *symlink, *rename, *link;
    file_slot open;
    read_slot read;
    write_slot write;
    void *flush;
    file_slot release;
    void *fsync, *opendir, *readdir, *releasedir, *fsyncdir, *statfs;
    void *setxattr, *getxattr, *listxattr, *removexattr, *access, *create, *getlk, *setlk, *bmap;
    ioctl_slot ioctl;
    void *poll, *write_buf, *retrieve_reply, *forget_multi, *flock;
    allocate_slot fallocate;
    void *readdirplus;
    void *copy_file_range, *lseek;
};

typedef void (*device_file_slot)(fuse_req_t req, struct fuse_file_info *fi);
typedef void (*device_ready_slot)(void *userdata);
typedef void (*device_ioctl_slot)(fuse_req_t req, int cmd, void *arg, struct fuse_file_info *fi,
                                  unsigned flags, const void *in_buf, size_t in_bufsz,
                                  size_t out_bufsz);

struct cuse_info {
    unsigned dev_major;
    unsigned dev_minor;
    unsigned dev_info_argc;
    const char **dev_info_argv;
    unsigned flags;
};

struct cuse_lowlevel_ops {
    init_slot init;
    device_ready_slot init_done;
    void *destroy;
    device_file_slot open;
    void *read, *write, *flush;
    device_file_slot release;
    void *fsync;
    device_ioctl_slot ioctl;
    void *poll;
};

int fuse_version(void);
int fuse_reply_err(fuse_req_t req, int err);
void fuse_reply_none(fuse_req_t req);
int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e);
int fuse_reply_attr(fuse_req_t req, const struct stat *attr, double attr_timeout);
int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi);
int fuse_reply_write(fuse_req_t req, size_t count);
int fuse_reply_buf(fuse_req_t req, const char *buf, size_t size);
int fuse_reply_ioctl(fuse_req_t req, int result, const void *buf, size_t size);
const struct fuse_ctx *fuse_req_ctx(fuse_req_t req);
void *fuse_req_userdata(fuse_req_t req);
typedef void (*interrupt_function)(fuse_req_t req, void *data);
void fuse_req_interrupt_func(fuse_req_t req, interrupt_function function, void *data);

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op,
                                      size_t op_size, void *userdata);
struct fuse_session *cuse_lowlevel_new(struct fuse_args *args, const struct cuse_info *ci,
                                       const struct cuse_lowlevel_ops *clop, void *userdata);
struct fuse_custom_io {
    void *writev, *read, *splice_receive, *splice_send;
};
int fuse_session_custom_io(struct fuse_session *se, const struct fuse_custom_io *io, int fd);
int fuse_session_mount(struct fuse_session *se, const char *mountpoint);
int fuse_session_loop_mt(struct fuse_session *se, struct fuse_loop_config *config);
void fuse_session_destroy(struct fuse_session *se);
int fuse_lowlevel_notify_inval_inode(struct fuse_session *se, fuse_ino_t ino, off_t off,
                                     off_t len);
struct fuse_loop_config *fuse_loop_cfg_create(void);
void fuse_loop_cfg_destroy(struct fuse_loop_config *config);
void fuse_loop_cfg_set_max_threads(struct fuse_loop_config *config, unsigned int value);
