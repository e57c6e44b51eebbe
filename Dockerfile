FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY media media
COPY flows flows
RUN python -m venv /opt/voicegate \
 && /opt/voicegate/bin/pip install --no-cache-dir --constraint constraints.txt .

# What runs for every packet becomes machine code. The compiler and its tools stay in this stage.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir --constraint constraints.txt --target /opt/compiler mypy setuptools
COPY docker/compile.py docker/
RUN PYTHONPATH=/opt/compiler /opt/voicegate/bin/python docker/compile.py /opt/voicegate/lib/python3.13/site-packages

FROM python:3.13-slim
COPY --from=build /opt/voicegate /opt/voicegate
RUN useradd --create-home --uid 10001 voicegate \
 && install -d -o voicegate -g voicegate -m 0700 /var/lib/voicegate
USER voicegate
ENV PATH=/opt/voicegate/bin:$PATH \
    VOICEGATE_HOST=0.0.0.0 \
    VOICEGATE_DATA_DIR=/var/lib/voicegate
VOLUME /var/lib/voicegate
EXPOSE 8080
# SIP is off until VOICEGATE_SIP_PORT is set. Audio has the UDP ports of VOICEGATE_MEDIA_PORTS: see docs/sip.md.
EXPOSE 5060/udp 5060/tcp 5061/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
# Without VOICEGATE_TOKENS it makes a token for this run and prints it.
ENTRYPOINT ["voicegate"]
CMD ["serve", "--new-token"]
