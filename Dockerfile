# Belay: one image for orchestrators and workers. docker-compose.yml runs a fleet of it; docs/deployment.md explains both.
#   docker build -t belayd .
#   docker run belayd worker

FROM node:20-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY libs libs
COPY apps apps
RUN npm run build

FROM node:20-bookworm-slim AS packages
WORKDIR /belay
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM node:20-bookworm-slim
# Process 1 passes signals on and collects orphans.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
ENV NODE_ENV=production \
    BELAY_DATA_DIR=/belay/data \
    BELAY_WORK_DIR=/belay/work \
    BELAY_WORKER_HTTP_PORT=7071
WORKDIR /belay
COPY --from=packages /belay/node_modules node_modules
COPY package.json LICENSE ./
COPY examples examples
COPY libs/valkey/lua libs/valkey/lua
COPY --from=build /build/dist/programs dist/programs
COPY --from=build /build/dist/package dist/package
# Agents run as the same user as their worker: not as root.
RUN install --directory --owner=node --group=node --mode=0700 data work
USER node
# The orchestrator's page, or the worker's: a container runs one of them.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=6 \
    CMD ["node", "-e", "const { BELAY_HTTP_PORT: o = 7070, BELAY_WORKER_HTTP_PORT: w } = process.env; Promise.any([o, w].map(async (port) => { if (!(await fetch(`http://127.0.0.1:${port}/health`)).ok) throw port; })).catch(() => process.exit(1))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "node", "/belay/dist/programs/belay.js"]
CMD ["worker"]
