// Written by build.py: what can only be called on things that can never be had (see refusals.c).
#include "abi.h"
#pragma clang diagnostic ignored "-Wunused-parameter"

EXPORT("cm32p2|fermyon:spin/mqtt@2|[method]connection.publish") u32 stub_0(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/mysql@2|[method]connection.execute") u32 stub_1(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/mysql@2|[method]connection.query") u32 stub_2(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/postgres@2|[method]connection.execute") u32 stub_3(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/postgres@2|[method]connection.query") u32 stub_4(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.del") u32 stub_5(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.execute") u32 stub_6(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.get") u32 stub_7(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.incr") u32 stub_8(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.publish") u32 stub_9(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.sadd") u32 stub_10(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.set") u32 stub_11(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.smembers") u32 stub_12(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/redis@2|[method]connection.srem") u32 stub_13(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|fermyon:spin/sqlite@2|[method]connection.execute") u32 stub_14(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:postgres/postgres@3|[method]connection.execute") u32 stub_15(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:postgres/postgres@3|[method]connection.query") u32 stub_16(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:postgres/postgres@4|[method]connection.execute") u32 stub_17(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:postgres/postgres@4|[method]connection.query") u32 stub_18(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:sqlite/sqlite@3|[method]connection.changes") u64 stub_19(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|spin:sqlite/sqlite@3|[method]connection.execute") u32 stub_20(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|spin:sqlite/sqlite@3|[method]connection.last-insert-rowid") u64 stub_21(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.advise") u32 stub_22(u32 p0, u64 p1, u64 p2, u32 p3) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.append-via-stream") u32 stub_23(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.create-directory-at") u32 stub_24(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.get-flags") u32 stub_25(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.get-type") u32 stub_26(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.is-same-object") u32 stub_27(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.link-at") u32 stub_28(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5, u32 p6) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.metadata-hash") u32 stub_29(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.metadata-hash-at") u32 stub_30(u32 p0, u32 p1, u32 p2, u32 p3) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.open-at") u32 stub_31(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.read") u32 stub_32(u32 p0, u64 p1, u64 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.read-directory") u32 stub_33(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.read-via-stream") u32 stub_34(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.readlink-at") u32 stub_35(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.remove-directory-at") u32 stub_36(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.rename-at") u32 stub_37(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.set-size") u32 stub_38(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.set-times") u32 stub_39(u32 p0, u32 p1, u64 p2, u32 p3, u32 p4, u64 p5, u32 p6) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.set-times-at") u32 stub_40(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u64 p5, u32 p6, u32 p7, u64 p8, u32 p9) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.stat") u32 stub_41(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.stat-at") u32 stub_42(u32 p0, u32 p1, u32 p2, u32 p3) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.symlink-at") u32 stub_43(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.sync") u32 stub_44(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.sync-data") u32 stub_45(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.unlink-file-at") u32 stub_46(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.write") u32 stub_47(u32 p0, u32 p1, u32 p2, u64 p3) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]descriptor.write-via-stream") u32 stub_48(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:filesystem/types@0.2|[method]directory-entry-stream.read-directory-entry") u32 stub_49(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/ip-name-lookup@0.2|[method]resolve-address-stream.resolve-next-address") u32 stub_50(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/ip-name-lookup@0.2|[method]resolve-address-stream.subscribe") u32 stub_51(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.accept") u32 stub_52(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.address-family") u32 stub_53(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.finish-bind") u32 stub_54(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.finish-connect") u32 stub_55(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.finish-listen") u32 stub_56(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.hop-limit") u32 stub_57(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.is-listening") u32 stub_58(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.keep-alive-count") u32 stub_59(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.keep-alive-enabled") u32 stub_60(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.keep-alive-idle-time") u32 stub_61(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.keep-alive-interval") u32 stub_62(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.local-address") u32 stub_63(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.receive-buffer-size") u32 stub_64(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.remote-address") u32 stub_65(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.send-buffer-size") u32 stub_66(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-hop-limit") u32 stub_67(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-keep-alive-count") u32 stub_68(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-keep-alive-enabled") u32 stub_69(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-keep-alive-idle-time") u32 stub_70(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-keep-alive-interval") u32 stub_71(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-listen-backlog-size") u32 stub_72(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-receive-buffer-size") u32 stub_73(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.set-send-buffer-size") u32 stub_74(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.shutdown") u32 stub_75(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.start-bind") u32 stub_76(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5, u32 p6, u32 p7, u32 p8, u32 p9, u32 p10, u32 p11, u32 p12, u32 p13) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.start-connect") u32 stub_77(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5, u32 p6, u32 p7, u32 p8, u32 p9, u32 p10, u32 p11, u32 p12, u32 p13) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.start-listen") u32 stub_78(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/tcp@0.2|[method]tcp-socket.subscribe") u32 stub_79(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]incoming-datagram-stream.receive") u32 stub_80(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]incoming-datagram-stream.subscribe") u32 stub_81(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]outgoing-datagram-stream.check-send") u32 stub_82(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]outgoing-datagram-stream.send") u32 stub_83(u32 p0, u32 p1, u32 p2) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]outgoing-datagram-stream.subscribe") u32 stub_84(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.address-family") u32 stub_85(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.finish-bind") u32 stub_86(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.local-address") u32 stub_87(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.receive-buffer-size") u32 stub_88(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.remote-address") u32 stub_89(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.send-buffer-size") u32 stub_90(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.set-receive-buffer-size") u32 stub_91(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.set-send-buffer-size") u32 stub_92(u32 p0, u64 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.set-unicast-hop-limit") u32 stub_93(u32 p0, u32 p1) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.start-bind") u32 stub_94(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5, u32 p6, u32 p7, u32 p8, u32 p9, u32 p10, u32 p11, u32 p12, u32 p13) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.stream") u32 stub_95(u32 p0, u32 p1, u32 p2, u32 p3, u32 p4, u32 p5, u32 p6, u32 p7, u32 p8, u32 p9, u32 p10, u32 p11, u32 p12, u32 p13) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.subscribe") u32 stub_96(u32 p0) { __builtin_trap(); }
EXPORT("cm32p2|wasi:sockets/udp@0.2|[method]udp-socket.unicast-hop-limit") u32 stub_97(u32 p0) { __builtin_trap(); }
