#!/usr/bin/env python3
"""AWS Lambda Runtime API emulator and cold-start timer (one file, stdlib only, Linux).

  lambda-cold-start.py --n 20 --warm 20 --event event.json -- ./bootstrap
  lambda-cold-start.py --n 20 --vs 'MODE=lazyall ./bootstrap' -- ./hello        # A B A B ..., ratios A/B... see below
  lambda-cold-start.py --n 10 --cpu-quota 0.0714 --quota-phase invoke -- ./bootstrap   # cgroup CPU quota (root): ~128 MB Lambda

For every run it starts the command as a child with AWS_LAMBDA_RUNTIME_API etc., answers
GET /2018-06-01/runtime/invocation/next, POST .../{id}/response|error, POST .../init/error
and the Extensions API register/next (so a runtime using internal extensions starts too).
Measured per run:
  init_ms       exec (clock read in the child just before execve) -> first GET next
  init_cpu_ms   CPU time of all the child's threads at that point (/proc/PID/task/*/schedstat)
  first_ms      first event handed out -> its response fully received
  warm_ms[]     the same for the next --warm events
  cold_ms       exec -> first response (init + first)
  rss_mb        VmHWM after the last response;  rss_init_mb: VmHWM at first GET next
  cpu_ms        whole CPU time at the end (ru_utime+ru_stime)
Prints JSON: per figure {median,min,max,p90} (+ p50/p99 for warm over all runs pooled).
--baseline 'CMD' interleaves a second command (K=V words before it set its environment) and adds
"ratio": median of pairwise figure/baseline ratios.  --check 'init_ms.ratio<=2.0' (repeatable) makes
the exit status 1 when false; names: FIGURE.median|p90|min|max or FIGURE.ratio, warm_ms.p50|p99.
Exit: 0 ok, 1 a check failed, 2 bad use, 3 the function failed (init error, died, timed out, error response).
"""
import argparse, json, os, select, shlex, signal, socket, statistics, sys, time, uuid

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument('--n', type=int, default=20)
ap.add_argument('--warm', type=int, default=20)
ap.add_argument('--event', action='append', default=[], help='JSON file; several: cycled (first one is the cold event)')
ap.add_argument('--event-json', action='append', default=[], help='inline JSON event')
ap.add_argument('--env', action='append', default=[], metavar='K=V')
ap.add_argument('--pin', default=None, help='CPU list for the child, e.g. 1')
ap.add_argument('--self-pin', default=None, help='CPU list for this emulator')
ap.add_argument('--cpu-quota', type=float, default=None, help='fraction of one CPU (cgroup cpu quota, 20 ms period as on Lambda-like throttling)')
ap.add_argument('--quota-phase', choices=('all', 'invoke'), default='all', help='invoke: init at full speed and the quota from the first GET next on (Lambda gives small functions a full CPU during init)')
ap.add_argument('--quota-period-us', type=int, default=20000)
ap.add_argument('--memory', default='128')
ap.add_argument('--handler', default='index.handler')
ap.add_argument('--task-root', default=None)
ap.add_argument('--evict', action='append', default=[], help='files dropped from the page cache before each run (default with --cold-disk: the command itself)')
ap.add_argument('--cold-disk', action='store_true')
ap.add_argument('--baseline', '--vs', dest='baseline', default=None)
ap.add_argument('--timeout', type=float, default=60)
ap.add_argument('--allow-error', action='store_true', help='an error response is timed, not fatal')
ap.add_argument('--show-response', action='store_true')
ap.add_argument('--stderr', default=None, help="file for the child's stdout+stderr (default: discarded; '-' passes through)")
ap.add_argument('--check', action='append', default=[])
ap.add_argument('--raw', action='store_true')
ap.add_argument('cmd', nargs=argparse.REMAINDER)
a = ap.parse_args()
cmd = a.cmd[1:] if a.cmd[:1] == ['--'] else a.cmd
if not cmd: ap.error('no command')
def cpus(s): return {int(x) for x in s.split(',')} if s else None
if a.self_pin: os.sched_setaffinity(0, cpus(a.self_pin))
events = [json.dumps(json.load(open(f))).encode() for f in a.event] + [json.dumps(json.loads(s)).encode() for s in a.event_json] or [b'{}']

class Fail(Exception): pass

def read_hwm(pid):
    try:
        for l in open(f'/proc/{pid}/status'):
            if l.startswith('VmHWM'): return int(l.split()[1]) / 1024
    except OSError: pass
    return 0.0
def read_cpu(pid):
    t = 0
    try:
        for d in os.listdir(f'/proc/{pid}/task'):
            t += int(open(f'/proc/{pid}/task/{d}/schedstat').read().split()[0])
    except OSError: pass
    return t / 1e6
def cg_make(q):
    v2 = os.path.exists('/sys/fs/cgroup/cgroup.controllers')
    d = f"/sys/fs/cgroup/{'' if v2 else 'cpu/'}cold_start_{os.getpid()}"
    os.makedirs(d, exist_ok=True)
    p = a.quota_period_us; us = max(1000, int(q * p))
    if v2: open(d + '/cpu.max', 'w').write(f'{us} {p}')
    else:
        open(d + '/cpu.cfs_period_us', 'w').write(str(p)); open(d + '/cpu.cfs_quota_us', 'w').write(str(us))
    return d
CG = cg_make(a.cpu_quota) if a.cpu_quota else None
def evict(files):
    for f in files:
        try:
            fd = os.open(f, os.O_RDONLY); os.fdatasync(fd); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED); os.close(fd)
        except OSError: pass

class Conn:
    __slots__ = ('s', 'buf')
    def __init__(self, s): self.s = s; self.buf = b''
    def request(self):
        """a complete request or None: (method, path, headers, body)"""
        i = self.buf.find(b'\r\n\r\n')
        if i < 0: return None
        lines = self.buf[:i].decode('latin1').split('\r\n')
        m, p, _ = lines[0].split(' ', 2)
        h = {k.strip().lower(): v.strip() for k, v in (l.split(':', 1) for l in lines[1:] if ':' in l)}
        rest = self.buf[i + 4:]
        if h.get('transfer-encoding', '').lower() == 'chunked':
            body = b''; pos = 0
            while True:
                j = rest.find(b'\r\n', pos)
                if j < 0: return None
                n = int(rest[pos:j].split(b';')[0], 16)
                if n == 0:
                    k = rest.find(b'\r\n\r\n', j - 0) if rest[j:j+4] != b'\r\n\r\n' else j
                    if k < 0: return None
                    self.buf = rest[k + 4:]; return m, p, h, body
                if len(rest) < j + 2 + n + 2: return None
                body += rest[j + 2:j + 2 + n]; pos = j + 2 + n + 2
        n = int(h.get('content-length', 0))
        if len(rest) < n: return None
        self.buf = rest[n:]
        return m, p, h, rest[:n]
def reply(c, status, body=b'', headers=()):
    h = f'HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n' + ''.join(f'{k}: {v}\r\n' for k, v in headers) + '\r\n'
    c.s.sendall(h.encode() + body)

def one(cmd, extra_env):
    ls = socket.socket(); ls.bind(('127.0.0.1', 0)); ls.listen(64); port = ls.getsockname()[1]
    env = {'PATH': os.environ.get('PATH', ''), 'HOME': '/nonexistent', 'LANG': 'en_US.UTF-8', 'TZ': ':UTC',
           'AWS_LAMBDA_RUNTIME_API': f'127.0.0.1:{port}', 'AWS_LAMBDA_FUNCTION_NAME': 'bench', 'AWS_LAMBDA_FUNCTION_VERSION': '$LATEST',
           'AWS_LAMBDA_FUNCTION_MEMORY_SIZE': a.memory, 'AWS_LAMBDA_LOG_GROUP_NAME': '/aws/lambda/bench', 'AWS_LAMBDA_LOG_STREAM_NAME': 's',
           'AWS_LAMBDA_INITIALIZATION_TYPE': 'on-demand', 'AWS_EXECUTION_ENV': 'AWS_Lambda_rust', 'AWS_REGION': 'us-east-1', 'AWS_DEFAULT_REGION': 'us-east-1',
           'AWS_ACCESS_KEY_ID': 'AKIDEXAMPLE', 'AWS_SECRET_ACCESS_KEY': 'secret', 'AWS_SESSION_TOKEN': 'token', 'AWS_XRAY_DAEMON_ADDRESS': '127.0.0.1:2000',
           '_HANDLER': a.handler, 'LAMBDA_TASK_ROOT': a.task_root or os.path.dirname(os.path.abspath(cmd[0])), 'LAMBDA_RUNTIME_DIR': '/var/runtime'}
    for kv in a.env: k, v = kv.split('=', 1); env[k] = v
    env.update(extra_env)
    if a.evict or a.cold_disk: evict(a.evict or [cmd[0]])
    out = 1 if a.stderr == '-' else os.open(a.stderr or '/dev/null', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open('/dev/null', os.O_RDONLY), 0); os.dup2(out, 1); os.dup2(out, 2)
            if a.task_root: os.chdir(a.task_root)
            if a.pin: os.sched_setaffinity(0, cpus(a.pin))
            elif a.self_pin: os.sched_setaffinity(0, set(range(os.cpu_count())))
            if CG and a.quota_phase == 'all': open(CG + ('/cgroup.procs'), 'w').write(str(os.getpid()))
            os.set_inheritable(w, False)
            os.write(w, str(time.monotonic_ns()).encode())
            os.execvpe(cmd[0], cmd, env)
        except BaseException as e:
            os.write(2, f'cold-start: {e}\n'.encode())
        finally: os._exit(127)
    os.close(w); t0 = int(os.read(r, 32)); os.close(r)
    if a.stderr != '-': os.close(out)
    res = {'warm_ms': []}; conns = {}; poll = select.poll(); poll.register(ls, select.POLLIN)
    try: pfd = os.pidfd_open(pid); poll.register(pfd, select.POLLIN)
    except (AttributeError, OSError): pfd = None
    total = 1 + a.warm; sent = {}; k = 0; done = 0; deadline = time.monotonic() + a.timeout
    status = None
    try:
        while done < total:
            left = deadline - time.monotonic()
            if left <= 0: raise Fail('timed out')
            for fd, ev in poll.poll(left * 1000):
                if fd == ls.fileno():
                    s, _ = ls.accept(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    conns[s.fileno()] = Conn(s); poll.register(s, select.POLLIN); continue
                if fd == pfd: raise Fail('the process ended')
                c = conns.get(fd)
                d = c.s.recv(1 << 20)
                now = time.monotonic_ns()
                if not d: poll.unregister(fd); c.s.close(); del conns[fd]; continue
                c.buf += d
                while (q := c.request()) is not None:
                    m, p, h, body = q
                    if m == 'GET' and p.endswith('/runtime/invocation/next'):
                        if 'init_ms' not in res:
                            res['init_ms'] = (now - t0) / 1e6; res['init_cpu_ms'] = read_cpu(pid); res['rss_init_mb'] = read_hwm(pid)
                            if CG and a.quota_phase == 'invoke': open(CG + '/cgroup.procs', 'w').write(str(pid))
                        if k >= total: continue      # held: nothing more to hand out
                        rid = str(uuid.uuid4()); e = events[k % len(events)]
                        hd = (('Lambda-Runtime-Aws-Request-Id', rid), ('Lambda-Runtime-Deadline-Ms', int(time.time() * 1000) + 60000),
                              ('Lambda-Runtime-Invoked-Function-Arn', 'arn:aws:lambda:us-east-1:123456789012:function:bench'),
                              ('Lambda-Runtime-Trace-Id', 'Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0'))
                        sent[rid] = (k, time.monotonic_ns()); k += 1
                        reply(c, '200 OK', e, hd)
                    elif m == 'POST' and (p.endswith('/response') or p.endswith('/error')) and '/invocation/' in p:
                        rid = p.split('/invocation/')[1].split('/')[0]; i, ts = sent.pop(rid); ms = (now - ts) / 1e6
                        if p.endswith('/error') and not a.allow_error: raise Fail('error response: ' + body[:500].decode(errors='replace'))
                        if a.show_response and i < 2: print('response:', body[:500].decode(errors='replace'), file=sys.stderr)
                        if i == 0: res['first_ms'] = ms; res['cold_ms'] = res['init_ms'] + ms
                        else: res['warm_ms'].append(ms)
                        done += 1
                        if done == total: res['rss_mb'] = read_hwm(pid)
                        reply(c, '202 Accepted', b'{"status":"OK"}')
                    elif m == 'POST' and p.endswith('/runtime/init/error'):
                        reply(c, '202 Accepted', b'{}'); raise Fail('init error: ' + body[:500].decode(errors='replace'))
                    elif p.endswith('/extension/register'):
                        reply(c, '200 OK', b'{"functionName":"bench","functionVersion":"$LATEST","handler":"h"}', (('Lambda-Extension-Identifier', str(uuid.uuid4())),))
                    elif p.endswith('/extension/event/next'): pass          # held
                    else: reply(c, '404 Not Found', b'{}')
    finally:
        try: os.kill(pid, signal.SIGKILL)
        except ProcessLookupError: pass
        _, st, ru = os.wait4(pid, 0)
        res['cpu_ms'] = (ru.ru_utime + ru.ru_stime) * 1000
        for c in conns.values(): c.s.close()
        ls.close()
        if pfd is not None: os.close(pfd)
    return res

def split_env(s):
    w = shlex.split(s); e = {}
    while w and '=' in w[0] and not w[0].startswith('/'): k, v = w.pop(0).split('=', 1); e[k] = v
    return w, e
def pct(xs, p): xs = sorted(xs); return xs[min(len(xs) - 1, int(len(xs) * p))]
def summ(rs):
    o = {}
    for f in ('init_ms', 'init_cpu_ms', 'first_ms', 'cold_ms', 'rss_init_mb', 'rss_mb', 'cpu_ms'):
        xs = [x[f] for x in rs]
        o[f] = {'median': statistics.median(xs), 'min': min(xs), 'max': max(xs), 'p90': pct(xs, .9)}
    ws = [w for x in rs for w in x['warm_ms']]
    if ws: o['warm_ms'] = {'p50': pct(ws, .5), 'p90': pct(ws, .9), 'p99': pct(ws, .99), 'max': max(ws), 'count': len(ws)}
    return {k: {q: round(v, 3) for q, v in d.items()} for k, d in o.items()}
A, B = [], []
fail = None
try:
    cmd, env_a = split_env(' '.join(shlex.quote(x) for x in cmd))
    bl = split_env(a.baseline) if a.baseline else None
    one(cmd, env_a)                                   # one uncounted warm-up of each
    if bl: one(*bl)
    for _ in range(a.n):
        A.append(one(cmd, env_a))
        if bl: B.append(one(*bl))
except Fail as e: fail = str(e)
finally:
    if CG:
        try: os.rmdir(CG)
        except OSError: pass
if fail: print(json.dumps({'failed': fail, 'runs_done': len(A)})); sys.exit(3)
o = {'cmd': cmd, 'n': len(A), 'bytes': os.path.getsize(cmd[0]) if os.path.exists(cmd[0]) else None, **summ(A)}
if B:
    o['baseline'] = {'cmd': bl[0], **summ(B)}
    for f in ('init_ms', 'init_cpu_ms', 'first_ms', 'cold_ms', 'rss_mb', 'cpu_ms'):
        o[f]['ratio'] = round(statistics.median(x[f] / y[f] if y[f] else 0 for x, y in zip(A, B)), 3)
        o[f]['diff'] = round(statistics.median(x[f] - y[f] for x, y in zip(A, B)), 3)
if a.raw: o['runs'] = A
rc = 0; o['checks'] = []
for c in a.check:
    for op in ('<=', '>='):
        if op in c:
            l, v = c.split(op); f, s = l.strip().split('.'); x = o[f][s]
            ok = x <= float(v) if op == '<=' else x >= float(v)
            o['checks'].append({'check': c, 'value': x, 'ok': ok}); rc |= not ok
print(json.dumps(o, indent=1)); sys.exit(int(rc))
